"""The schema of ``manifest.json``: everything needed to use a set of weights, and their measured accuracy."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from model.calibration import Calibration

FORMAT_VERSION: Literal[1] = 1

Metric = Literal["l1", "l2", "cosine"]
"""Distance between index-form vectors: sum |a-b|, Euclidean length of a-b, or 1 - <a, b> of unit vectors."""

SimilarityKind = Literal["weighted-l1", "euclidean", "cosine"]

METRICS: dict[SimilarityKind, Metric] = {"weighted-l1": "l1", "euclidean": "l2", "cosine": "cosine"}


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessSpec(_Spec):
    """How an image becomes a tensor; training and serving run the same code."""

    size: int = Field(ge=8, le=1024, description="Side of the square input, in pixels.")
    channels: Literal[1, 3] = Field(default=1, description="1: grey; 3: colour.")
    polarity: Literal["ink", "as-is"] = Field(
        default="ink", description="ink: background becomes 0 and ink 1, so that black on white equals white on black."
    )
    crop: Literal["none", "ink"] = Field(default="none", description="ink: cut to the box of what is drawn.")
    margin: float = Field(default=0.1, ge=0, le=1, description="Margin left around the ink box, part of its side.")
    fit: Literal["pad", "stretch", "cover"] = Field(
        default="pad", description="How an image that is not square becomes so; cover: its middle square is taken."
    )
    share: float = Field(default=1.0, gt=0, le=1, description="Part of the square's side that is kept, in its middle.")
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit fields that later releases added while they have their defaults, so that older digests stay valid."""
        content: dict[str, Any] = plain(self)
        for name in ("share", "interpolation"):
            if getattr(self, name) == type(self).model_fields[name].default:
                content.pop(name, None)
        return content


class KochSpec(_Spec):
    """The convolutional twin of Koch, Zemel and Salakhutdinov (2015), for 105 x 105 grey input."""

    kind: Literal["koch"] = "koch"


class ResidualSpec(_Spec):
    """A strided stem, residual blocks that halve the resolution, and a linear embedding."""

    kind: Literal["residual"] = "residual"
    stem: int = Field(ge=1, le=1024)
    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(min_length=1, max_length=6)
    dim: int = Field(ge=2, le=4096)


class ConvSpec(_Spec):
    """The convolutional net of the few-shot literature (conv4): ``depth`` blocks of ``width`` channels."""

    kind: Literal["conv"] = "conv"
    width: int = Field(default=64, ge=1, le=1024)
    depth: int = Field(default=4, ge=1, le=6)
    dim: int | None = Field(default=None, ge=2, le=4096, description="None: the last feature map is the embedding.")


class GradientsSpec(_Spec):
    """Fixed oriented gradients in square cells, and a learned linear embedding."""

    kind: Literal["gradients"] = "gradients"
    cell: int = Field(ge=2, le=256, description="Side of a cell, in pixels; it divides the input's side.")
    blurs: tuple[Annotated[float, Field(gt=0, le=16)], ...] = Field(
        min_length=1, max_length=4, description="Gaussian blurs under which slopes are taken, in pixels."
    )
    directions: Literal[4, 8, 16] = 8
    mirror: bool = Field(default=False, description="An image and its mirror image get the same embedding.")
    dim: int = Field(ge=2, le=4096)

    def features(self, size: int) -> int:
        """Return the number of features before the linear embedding, for an input of ``size`` pixels a side."""
        cells = size // self.cell
        return len(self.blurs) * self.directions * cells * ((cells + 1) // 2 if self.mirror else cells)


class FocusSpec(_Spec):
    """A learned window on the symbol, residual blocks with squeeze-and-excitation, and attention pooling."""

    kind: Literal["focus"] = "focus"
    window: int = Field(ge=16, le=512, description="Side of the window that the blocks see, in pixels.")
    widths: tuple[Annotated[int, Field(ge=8, le=4096)], ...] = Field(min_length=2, max_length=6)
    heads: int = Field(default=8, ge=1, le=64, description="Weighted means of the last map's positions.")
    dim: int = Field(ge=2, le=4096)


MemberSpec = Annotated[KochSpec | ResidualSpec | ConvSpec | GradientsSpec | FocusSpec, Field(discriminator="kind")]


class EnsembleSpec(_Spec):
    """Networks in parallel, unit embeddings concatenated: the cosine of two is the mean of the members' cosines."""

    kind: Literal["ensemble"] = "ensemble"
    members: tuple[MemberSpec, ...] = Field(min_length=2, max_length=16)


NetworkSpec = Annotated[
    KochSpec | ResidualSpec | ConvSpec | GradientsSpec | FocusSpec | EnsembleSpec, Field(discriminator="kind")
]


def embedding_dim(spec: NetworkSpec, preprocess: PreprocessSpec) -> int:
    """Return the dimension of the embedding of ``spec``."""
    if isinstance(spec, EnsembleSpec):
        return sum(embedding_dim(member, preprocess) for member in spec.members)
    if isinstance(spec, KochSpec):
        return 4096
    if spec.dim is not None:
        return spec.dim
    return spec.width * (preprocess.size >> spec.depth) ** 2


class SimilaritySpec(_Spec):
    """The similarity of embeddings of dimension ``dim``."""

    kind: SimilarityKind
    dim: int = Field(ge=2)


class WeightsInfo(_Spec):
    """The weights file that belongs to this manifest."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    parameters: int = Field(gt=0)


class GraphInfo(_Spec):
    """``network.onnx``: the network with its similarity as a standard graph, images in and index-form vectors out.

    It is determined by the weights, so it is not part of the digest: adding a graph, or one from another exporter, does
    not change the vectors.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    opset: int = Field(ge=1, description="Version of ONNX's operators that it is written in.")


class QuantisedInfo(_Spec):
    """An int8 form: OpenVINO's graph, with the weights in the file that ``WeightsInfo`` names.

    Its embeddings differ from those of its source artefact, so it is a separate model with its own digest, calibration
    and measured accuracy.
    """

    precision: Literal["int8"] = "int8"
    source: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the artefact that it was made from.")
    graph_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    graph_bytes: int = Field(gt=0)


class Measurement(_Spec):
    """One measured figure: protocol and data, number of trials, interval, and the command that reproduces it."""

    protocol: str
    value: float
    unit: str
    n: int = Field(gt=0)
    low: float
    high: float
    seed: int | None = None
    command: str


class Manifest(_Spec):
    """``manifest.json``: architecture, preprocessing, similarity, calibration, recipe and measured accuracy."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    created: datetime
    network: NetworkSpec
    preprocess: PreprocessSpec
    similarity: SimilaritySpec
    calibration: Calibration
    weights: WeightsInfo
    recipe: dict[str, JsonValue] = Field(default_factory=dict, description="The recipe that trained the weights.")
    accuracy: tuple[Measurement, ...] = ()
    quantised: QuantisedInfo | None = Field(default=None, description="Set where this is an int8 form.")
    views: Literal[1, 3, 5, 9] = Field(
        default=1, description="Views of an image that its vector is the mean of; this release makes one."
    )
    joined: tuple[str, ...] = Field(default=(), description="Names of the artefacts that were joined into this one.")
    graph: GraphInfo | None = Field(default=None, description="Set where there is a graph beside the weights.")

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit fields that later releases added while they have their defaults, so that older checksums stay valid."""
        content: dict[str, Any] = plain(self)
        nothing = {"quantised": None, "views": 1, "joined": (), "graph": None}
        for name in (name for name, value in nothing.items() if getattr(self, name) == value):
            content.pop(name, None)
        return content

    @property
    def metric(self) -> Metric:
        """The metric that compares the index-form vectors of this model."""
        return METRICS[self.similarity.kind]

    @property
    def digest(self) -> str:
        """SHA-256 over everything that affects embeddings; recalibrating the same network keeps it."""
        parts = {"network", "preprocess", "similarity", "weights", "quantised", "views"}
        return _sha256(self.model_dump(mode="json", include=parts))

    @property
    def model_id(self) -> str:
        """Short name for answers and logs: ``name@digest``."""
        return f"{self.name}@{self.digest[:12]}"

    @property
    def checksum(self) -> str:
        """SHA-256 over the whole manifest, stored in the same file to detect edits."""
        return _sha256(self.model_dump(mode="json"))


def _sha256(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
