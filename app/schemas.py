"""What goes over the wire. `…Query` are query parameters (unknown ones are refused), `…Public` are answers.

Answers may get further fields in later versions; clients should ignore those that they don't know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.names import DEFAULT_GALLERY, GalleryName, Label

_EXAMPLE_MODEL = "omniglot@3f9a1c0b72de"

ModelId = Annotated[
    str,
    Field(description="The model that answered: name@digest.", examples=[_EXAMPLE_MODEL], pattern=r"^.+@[0-9a-f]+$"),
]
Probability = Annotated[float, Field(ge=0, le=1)]
Similarity = Annotated[
    Probability,
    Field(description="Calibrated probability that the two images show the same class.", examples=[0.987]),
]
Distance = Annotated[
    float, Field(ge=0, description="Raw distance in the model's metric; smaller is more alike.", examples=[0.121])
]
Threshold = Annotated[Probability, Field(description="The similarity from which on it counts as the same class.")]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GalleryQuery(_Query):
    """The gallery that a request is about."""

    gallery: GalleryName = Field(DEFAULT_GALLERY, description="Name of the gallery.")


class EnrollQuery(_Query):
    """The gallery may be named in the form or here."""

    gallery: GalleryName | None = Field(None, description="Name of the gallery; also accepted as a field of the form.")


class ClassifyQuery(GalleryQuery):
    """How to classify."""

    k: int = Field(5, ge=1, le=100, description="How many candidates to list at most.")
    threshold: Probability | None = Field(
        None,
        description="Similarity from which on the best candidate is named. 0 always names it (closed set). "
        "When not given: the threshold that lets 1 % of strangers in, for the number of classes enrolled now.",
    )


class VerifyQuery(GalleryQuery):
    """How to verify; the gallery matters only when a label is given."""

    threshold: Probability | None = Field(
        None,
        description="Similarity from which on the images count as the same. When not given: the threshold at which "
        "1 % of pairs of different classes are taken for the same.",
    )


class EmptyQuery(_Query):
    """No parameters."""


class PageQuery(GalleryQuery):
    """One page of a gallery's classes."""

    limit: int = Field(100, ge=1, le=1000, description="Most classes on one page.")
    after: Label | None = Field(None, description="`next` of the page before.")


class ShotQuery(GalleryQuery):
    """One of a class's images."""

    shot: int = Field(
        0, ge=0, le=2**31, description="Which of the class's images, counted from 0 in order of enrolment."
    )


class ClassPublic(BaseModel):
    """An enrolled class."""

    label: str = Field(examples=["alpha"])
    gallery: str = Field(examples=[DEFAULT_GALLERY])
    shots: int = Field(ge=0, description="How many images the class has.", examples=[1])
    created_at: datetime
    updated_at: datetime


class EnrollPublic(BaseModel):
    """The class as it is now in the store; it survives a crash from here on."""

    class_: ClassPublic = Field(serialization_alias="class")
    created: bool = Field(description="Whether the class is new (and not replaced or added to).")
    model: ModelId


class ClassPage(BaseModel):
    """Some classes in the order of their labels."""

    gallery: str
    classes: list[ClassPublic]
    next: str | None = Field(description="Pass it as `after` for the next page; null on the last one.")


class Candidate(BaseModel):
    """A class that the image may be of."""

    label: str = Field(examples=["alpha"])
    similarity: Similarity
    distance: Distance


class ClassifyPublic(BaseModel):
    """What the image is."""

    label: str | None = Field(
        description="The best candidate's label, or null when no candidate reaches the threshold.", examples=["alpha"]
    )
    candidates: list[Candidate] = Field(description="Best first, each class at most once.")
    threshold: Threshold
    gallery: str = Field(examples=[DEFAULT_GALLERY])
    gallery_size: int = Field(ge=0, description="Classes enrolled when the image was classified.", examples=[20])
    model: ModelId


class VerifyPublic(BaseModel):
    """Whether two images, or an image and an enrolled class, are the same."""

    verified: bool = Field(description="similarity >= threshold.")
    similarity: Similarity
    distance: Distance
    threshold: Threshold
    model: ModelId


class EmbedPublic(BaseModel):
    """Vectors on which the metric that `/model` names is the service's distance."""

    embeddings: list[list[float]] = Field(description="One vector for each image, in the order of the parts.")
    dim: int = Field(ge=1, description="Numbers in each vector.")
    model: ModelId


class GalleryPublic(BaseModel):
    """A gallery."""

    name: str = Field(examples=[DEFAULT_GALLERY])
    classes: int = Field(ge=0)
    digest: str = Field(description="Digest of the model that all its vectors are made with, as `/model` tells it.")
    created_at: datetime


class GalleryList(BaseModel):
    """All galleries, in the order of their names."""

    galleries: list[GalleryPublic]


class ModelPublic(BaseModel):
    """What is running."""

    model: ModelId
    digest: str = Field(description="SHA-256 over all that changes an embedding.", pattern=r"^[0-9a-f]{64}$")
    similarity: str = Field(description="Kind of similarity: weighted-l1, euclidean or cosine.", examples=["cosine"])
    metric: str = Field(
        description="l1: sum |a-b|; l2: Euclidean; cosine: 1 - <a, b> on unit vectors.", examples=["cosine"]
    )
    dim: int = Field(ge=1, description="Numbers in an embedding.")
    device: str = Field(description="The device really used.", examples=["cpu"])
    manifest: dict[str, Any] = Field(description="The artefact's manifest.")


class HealthPublic(BaseModel):
    """A probe's answer."""

    status: str = Field(examples=["ready"])


class FieldProblem(BaseModel):
    """One wrong input."""

    loc: list[str | int] = Field(description="Where: path, query or body, then the name.", examples=[["body", "label"]])
    message: str = Field(examples=["is missing"])
    kind: str = Field(examples=["missing"])


class Problem(BaseModel):
    """RFC 9457 problem details: the one shape of every error."""

    type: str = Field(description="A URN; docs/errors.md lists all.", examples=["urn:oneshot:problem:class-not-found"])
    title: str = Field(examples=["Class not found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(examples=["Gallery 'default' has no class 'alpha'."])
    instance: str = Field(description="The path that was asked for.", examples=["/classes/alpha"])
    request_id: str = Field(description="Also in the X-Request-ID header and in the log.")
    errors: list[FieldProblem] | None = Field(
        None, description="The single wrong inputs, where the error is about inputs."
    )
