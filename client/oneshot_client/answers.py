"""What the service answers. It makes its answers of these models, too, so there is one definition of them.

Answers may get further fields in later versions; those that a client does not know are ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field

from oneshot_client.wire import DEFAULT_GALLERY

_EXAMPLE_MODEL = "omniglot@3f9a1c0b72de"

ModelId = Annotated[
    str,
    Field(description="The model that answered: name@digest.", examples=[_EXAMPLE_MODEL], pattern=r"^.+@[0-9a-f]+$"),
]
Probability = Annotated[float, Field(ge=0, le=1)]
OpenProbability = Annotated[float, Field(gt=0, lt=1)]
Evidence = Annotated[
    float,
    Field(description="Log-likelihood ratio, in nats, of 'same' against 'different'; the prior plays no part."),
]
Prior = Annotated[OpenProbability, Field(description="The probability of 'same' before looking.", examples=[0.5])]
Similarity = Annotated[
    Probability,
    Field(description="Calibrated probability that the two images show the same class.", examples=[0.987]),
]
Distance = Annotated[
    float, Field(ge=0, description="Raw distance in the model's metric; smaller is more alike.", examples=[0.121])
]
Threshold = Annotated[Probability, Field(description="The similarity from which on it counts as the same class.")]


class ClassPublic(BaseModel):
    """An enrolled class."""

    label: str = Field(examples=["alpha"])
    gallery: str = Field(examples=[DEFAULT_GALLERY])
    shots: int = Field(ge=0, description="How many images the class has.", examples=[1])
    created_at: datetime
    updated_at: datetime


class EnrollPublic(BaseModel):
    """The class as it is now in the store; it survives a crash from here on."""

    class_: ClassPublic = Field(serialization_alias="class", validation_alias=AliasChoices("class_", "class"))
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
    llr: Evidence


class ExplanationPublic(BaseModel):
    """How unusual the best candidate is, and who comes next."""

    support_image: str = Field(description="Address of the best candidate's image.", examples=["/classes/alpha/image"])
    impostor_rank: Probability = Field(
        description="Share of pairs of different classes that are at least as near.", examples=[0.0004]
    )
    stranger_rank: Probability = Field(
        description="Share of strangers that come at least as near to one of the enrolled classes.", examples=[0.008]
    )
    runner_up: Candidate | None = Field(description="The second-best class, null when there is none.")


class ClassifyPublic(BaseModel):
    """What the image is."""

    label: str | None = Field(
        description="The best candidate's label, or null when no candidate reaches the threshold.", examples=["alpha"]
    )
    ambiguous: bool = Field(
        description="Whether the best candidate was named although it beats the runner-up by odds of less than 3 to 1."
    )
    margin: float | None = Field(
        description="Evidence, in nats, for the best candidate against the runner-up; null when there is none."
    )
    candidates: list[Candidate] = Field(description="Best first, each class at most once.")
    threshold: Threshold
    fpir: Probability = Field(
        description="Share of strangers that reach the threshold in a gallery of this size.", examples=[0.01]
    )
    prior: Prior
    gallery: str = Field(examples=[DEFAULT_GALLERY])
    gallery_size: int = Field(
        ge=0,
        description="Classes enrolled when the image was classified; the threshold is for this many.",
        examples=[20],
    )
    explanation: ExplanationPublic | None = Field(None, description="Only with `explain`, and with a candidate.")
    model: ModelId


class FnmrPublic(BaseModel):
    """An expected false non-match rate."""

    value: Probability = Field(examples=[0.05])
    low: Probability = Field(description="Lower end of the 95 % interval.", examples=[0.04])
    high: Probability = Field(description="Upper end of the 95 % interval.", examples=[0.06])


class VerifyPublic(BaseModel):
    """Whether two images, or an image and an enrolled class, are the same."""

    verified: bool = Field(description="similarity >= threshold.")
    similarity: Similarity
    distance: Distance
    llr: Evidence
    threshold: Threshold
    fmr: Probability = Field(
        description="Share of pairs of different classes that reach the threshold.", examples=[0.01]
    )
    fnmr: FnmrPublic = Field(description="Share of pairs of one class that do not reach it.")
    prior: Prior
    model: ModelId


class CalibrationPublic(BaseModel):
    """What a gallery's similarities mean."""

    gallery: str = Field(examples=[DEFAULT_GALLERY])
    source: str = Field(description="The images that it was fitted on.")
    method: str = Field(description="platt, beta or isotonic: the one with the least log-loss.", examples=["platt"])
    prior: Prior
    classes: int = Field(ge=2, description="Classes that it was fitted on.")
    genuine_pairs: int = Field(ge=1, description="Pairs of images of one class.")
    impostor_pairs: int = Field(ge=1, description="Pairs of images of two.")
    log_loss: float = Field(ge=0, description="Cross-validated, in nats for a pair at prior 0.5.")
    ece: Probability = Field(description="Expected calibration error, cross-validated.")
    smallest_fmr: Probability = Field(description="The smallest FMR that the data supports.")
    smallest_fpir: Probability = Field(description="The smallest FPIR that the data supports.")


class EmbedPublic(BaseModel):
    """Vectors on which the metric that `/model` names is the service's distance."""

    embeddings: list[list[float]] = Field(description="One vector for each image, in the order of the parts.")
    dim: int = Field(ge=1, description="Numbers in each vector.")
    model: ModelId


class NeighbourPublic(BaseModel):
    """A class near another."""

    label: str = Field(examples=["beta"])
    similarity: Similarity
    distance: Distance


class MapPoint(BaseModel):
    """A class on the map."""

    label: str = Field(examples=["alpha"])
    x: float
    y: float
    neighbours: list[NeighbourPublic] = Field(description="Nearest first, by the distance in all dimensions.")


class MapPublic(BaseModel):
    """A gallery in two dimensions: each class at the place of its oldest image."""

    gallery: str = Field(examples=[DEFAULT_GALLERY])
    gallery_size: int = Field(ge=0, description="Classes in the gallery.")
    points: list[MapPoint] = Field(description="All classes, or 2000 spread evenly over them.")
    explained: Probability = Field(description="Share of the vectors' variance that the two axes hold.")
    model: ModelId


class ModelChangePublic(BaseModel):
    """How far a gallery is on its way to another model; until then its present model answers for it."""

    digest: str = Field(description="The model that it will have.")
    shots: int = Field(ge=0, description="Images of the gallery.")
    done: int = Field(ge=0, description="Those that the new model has embedded.")
    without_image: int = Field(ge=0, description="Those that can't be embedded, because they were not kept.")
    problem: str | None = Field(default=None, description="Why the work does not get on, null while it does.")


class ModelsPublic(BaseModel):
    """The models of the data folder, and a change that is under way."""

    model: str | None = Field(description="Digest of the model that all galleries have or change to.")
    previous: str | None = Field(description="Digest of the model that a rollback goes back to.")
    available: list[str] = Field(description="Digests of the models that the data folder holds.")
    galleries: dict[str, ModelChangePublic] = Field(description="The galleries that have another model yet.")


class GalleryPublic(BaseModel):
    """A gallery."""

    model_change: ModelChangePublic | None = Field(None, description="Set while the gallery changes its model.")

    name: str = Field(examples=[DEFAULT_GALLERY])
    classes: int = Field(ge=0)
    digest: str = Field(description="Digest of the model that all its vectors are made with, as `/model` tells it.")
    calibrated: bool = Field(description="Whether it has a calibration of its own.")
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
    engine: str = Field(description="What runs the network: torch, torch-half, openvino or openvino-int8.")
    manifest: dict[str, Any] = Field(description="The artefact's manifest.")


class HealthPublic(BaseModel):
    """A probe's answer."""

    status: str = Field(examples=["ready"])


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
