"""Galleries: namespaces of classes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.deps import NoQueryDep, RecognizerDep
from app.errors import GalleryNotFoundError, InvalidRequestError
from app.names import DEFAULT_GALLERY, GalleryName
from app.openapi import problems
from app.schemas import GalleryList, GalleryPublic
from app.store.base import GalleryRecord

router = APIRouter(tags=["galleries"])


@router.get("/galleries", responses=problems(InvalidRequestError))
async def list_galleries(recognizer: RecognizerDep, _query: NoQueryDep) -> GalleryList:
    """List all galleries that somebody has enrolled into."""
    return GalleryList(galleries=[_public(record) for record in await recognizer.list_galleries()])


@router.delete("/galleries/{name}", status_code=204, responses=problems(InvalidRequestError, GalleryNotFoundError))
async def remove_gallery(
    name: Annotated[GalleryName, Path(description="Name of the gallery.", examples=[DEFAULT_GALLERY])],
    recognizer: RecognizerDep,
    _query: NoQueryDep,
) -> None:
    """Delete a gallery with all its classes."""
    await recognizer.remove_gallery(name)


def _public(record: GalleryRecord) -> GalleryPublic:
    return GalleryPublic(
        name=record.name, classes=record.classes, digest=record.model_digest, created_at=record.created_at
    )
