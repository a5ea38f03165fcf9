"""What goes over the wire when many images are enrolled at once; see `app.schemas`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.schemas import ModelId


class BatchItem(BaseModel):
    """What became of one image of a batch."""

    index: int = Field(ge=0, description="Its place in the request, counted from 0.")
    label: str | None = Field(description="Its label, null where it had none that can be used.", examples=["alpha"])
    status: int = Field(description="201: a new class; 200: replaced or added to; else as of its problem.")
    problem: str | None = Field(default=None, description="Slug of the problem.", examples=["undecodable-image"])
    detail: str | None = Field(default=None, description="What was wrong, for people.")


class BatchPublic(BaseModel):
    """What became of a batch: all good images were enrolled in one commit."""

    enrolled: int = Field(ge=0)
    failed: int = Field(ge=0)
    passed_over: int = Field(default=0, ge=0, description="Files of a zip file that are no images by their names.")
    items: list[BatchItem] = Field(description="One for each image, in order.")
    model: ModelId
