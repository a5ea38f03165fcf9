"""From distances to a decision: known or unknown. Pure: no state, no input or output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model.calibration import Calibration

#: The error rate that thresholds aim at when the caller names none.
DEFAULT_FALSE_MATCH_RATE = 0.01


class Matched(Protocol):
    """A class at a distance, as the gallery finds it."""

    @property
    def label(self) -> str:
        """The class's label."""

    @property
    def distance(self) -> float:
        """The smallest distance to one of its shots."""


@dataclass(frozen=True)
class Scored:
    """A candidate with its distance turned into a probability."""

    label: str
    similarity: float
    distance: float


@dataclass(frozen=True)
class Decision:
    """`label` is the best candidate's if its similarity reaches `threshold`, else None; `candidates` are best first."""

    label: str | None
    candidates: tuple[Scored, ...]
    threshold: float


def verification_threshold(calibration: Calibration) -> float:
    """The similarity that 1 % of pairs of different classes reach."""
    return calibration.threshold_at_fmr(DEFAULT_FALSE_MATCH_RATE)


def identification_threshold(calibration: Calibration, classes: int) -> float:
    """The similarity that 1 % of strangers reach with at least one of `classes` classes.

    A stranger has as many chances as there are classes, so it rises with the gallery.
    """
    return calibration.threshold_at_fpir(DEFAULT_FALSE_MATCH_RATE, max(classes, 1))


def similarity_of(calibration: Calibration, distance: float) -> float:
    """The probability, as a plain number, that a pair at this distance is of the same class."""
    return float(calibration.probability(distance))


def decide(matches: Sequence[Matched], calibration: Calibration, threshold: float) -> Decision:
    """Score `matches` (best first) and name the best one if it reaches `threshold`."""
    candidates = tuple(
        Scored(match.label, similarity_of(calibration, match.distance), match.distance) for match in matches
    )
    known = bool(candidates) and candidates[0].similarity >= threshold
    return Decision(candidates[0].label if known else None, candidates, threshold)
