"""What is asked over the wire. Unknown parameters are refused. The answers are `oneshot_client.answers`."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.names import DEFAULT_GALLERY, GalleryName, Label, SearchText
from oneshot_client.answers import OpenProbability, Probability

D = TypeVar("D", bound="_DecisionQuery")


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GalleryQuery(_Query):
    """The gallery that a request is about."""

    gallery: GalleryName = Field(DEFAULT_GALLERY, description="Name of the gallery.")


def _rate_or_threshold(query: D, rate: float | None, name: str) -> D:
    if rate is not None and query.threshold is not None:
        raise ValueError(f"give either {name} or threshold, not both")
    return query


class EnrollQuery(_Query):
    """The gallery may be named in the form or here."""

    gallery: GalleryName | None = Field(None, description="Name of the gallery; also accepted as a field of the form.")


class _DecisionQuery(GalleryQuery):
    prior: OpenProbability | None = Field(
        None, description="Probability of 'same' before looking. When not given: that of the calibration."
    )
    threshold: Probability | None = Field(
        None, description="Similarity from which on it counts as the same class; excludes a rate."
    )


class ClassifyQuery(_DecisionQuery):
    """How to classify."""

    k: int = Field(5, ge=1, le=100, description="How many candidates to list at most.")
    fpir: OpenProbability | None = Field(
        None,
        description="The share of strangers that may be named as somebody, for the number of classes enrolled now; "
        "0.01 when neither this nor `threshold` is given. `threshold=0` always names the best (closed set).",
    )
    explain: bool = Field(False, description="Add how unusual the best candidate is, and who comes next.")

    @model_validator(mode="after")
    def _one_of_two(self) -> ClassifyQuery:
        return _rate_or_threshold(self, self.fpir, "fpir")


class VerifyQuery(_DecisionQuery):
    """How to verify; the gallery gives the class of a label, and the calibration."""

    fmr: OpenProbability | None = Field(
        None,
        description="The share of pairs of different classes that may be taken for the same; 0.01 when neither this "
        "nor `threshold` is given.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> VerifyQuery:
        return _rate_or_threshold(self, self.fmr, "fmr")


class CalibrateQuery(_Query):
    """How to calibrate."""

    prior: OpenProbability | None = Field(
        None, description="Probability of 'same' before looking; default: the model's."
    )


class EmptyQuery(_Query):
    """No parameters."""


class PageQuery(GalleryQuery):
    """One page of a gallery's classes."""

    limit: int = Field(100, ge=1, le=1000, description="Most classes on one page.")
    after: Label | None = Field(None, description="`next` of the page before.")
    search: SearchText | None = Field(
        None, description="Only classes whose label contains this, in upper or lower case.", examples=["house"]
    )


class ShotQuery(GalleryQuery):
    """One of a class's images."""

    shot: int = Field(
        0, ge=0, le=2**31, description="Which of the class's images, counted from 0 in order of enrolment."
    )


class RenameBody(BaseModel):
    """The new label of a class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Label = Field(description="What the class is to be called.", examples=["beta"])


class SwitchQuery(_Query):
    """The model to change to."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of a model that the data folder holds.")
