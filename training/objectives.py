"""The objectives' settings in a recipe; ``training.losses`` computes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Base of a recipe's parts: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Objective(Part):
    weight: float = Field(default=1, gt=0, description="Factor in the sum of objectives.")


class SoftmaxObjective(_Objective):
    """Cosine softmax over all training classes."""

    kind: Literal["softmax"] = "softmax"
    scale: float = Field(default=16, gt=0)
    smoothing: float = Field(default=0.05, ge=0, lt=1)


class MatchingObjective(_Objective):
    """One-shot episodes within the batch: each image is classified among one other image of every class."""

    kind: Literal["matching"] = "matching"
    scale: float = Field(default=20, gt=0)


class PairBceObjective(_Objective):
    """Koch's binary cross-entropy on all pairs of the batch; both outcomes have equal weight."""

    kind: Literal["pair-bce"] = "pair-bce"


class ContrastiveObjective(_Objective):
    """The contrastive loss of Hadsell, Chopra and LeCun on all pairs; both outcomes have equal weight."""

    kind: Literal["contrastive"] = "contrastive"
    margin: float = Field(default=1, gt=0)


class TripletObjective(_Objective):
    """The triplet loss: an image of the anchor's class is nearer than one of another class, by ``margin``."""

    kind: Literal["triplet"] = "triplet"
    margin: float = Field(default=0.2, gt=0)
    mining: Literal["hard", "all"] = Field(
        default="hard", description="hard: each image with its farthest like and nearest unlike; all: every triplet."
    )


class DistillObjective(_Objective):
    """Distillation: learn the similarities that a teacher model finds between the batch's images."""

    kind: Literal["distill"] = "distill"
    teacher: str = Field(description="Folder of the teacher's artefact.")
    scale: float = Field(default=20, gt=0, description="Sharpness of the similarities.")


Objective = Annotated[
    SoftmaxObjective
    | MatchingObjective
    | PairBceObjective
    | ContrastiveObjective
    | TripletObjective
    | DistillObjective,
    Field(discriminator="kind"),
]
