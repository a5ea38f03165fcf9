"""Turns distances into a decision: known, unknown or ambiguous, with expected error rates. No state, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model.calibration import Calibration

#: Default error rate that thresholds aim at: the FMR of a pair, the FPIR of a gallery. If a gallery's own calibration
#: has too few images for it, the smallest rate that they support is used instead.
DEFAULT_ERROR_RATE = 0.01
#: With a margin below these odds, in nats, the best candidate counts as ambiguous: 3 to 1.
AMBIGUOUS_MARGIN = math.log(3)
#: Similarities are clipped to this distance from 0 and 1 before their odds are taken.
_EDGE = 1e-12


class Matched(Protocol):
    """A class and its distance, as the gallery returns it."""

    @property
    def label(self) -> str:
        """The class's label."""

    @property
    def distance(self) -> float:
        """The smallest distance to one of its shots."""


@dataclass(frozen=True)
class Scored:
    """A candidate with its distance as evidence (log-likelihood ratio, nats) and as a probability."""

    label: str
    similarity: float
    distance: float
    llr: float


@dataclass(frozen=True)
class FnmrEstimate:
    """The expected false non-match rate, with its 95 % interval on the calibration's data."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairThreshold:
    """A threshold for two images, and its expected error rates."""

    threshold: float
    fmr: float
    fnmr: FnmrEstimate


@dataclass(frozen=True)
class GalleryThreshold:
    """A threshold for a gallery of `size` classes, and the expected share of strangers above it."""

    threshold: float
    fpir: float
    size: int


@dataclass(frozen=True)
class Decision:
    """`label` is that of the best candidate if its similarity reaches the threshold, else None.

    `candidates` are sorted, best first. `margin` is the evidence, in nats, for the best candidate against the
    runner-up, None without a runner-up. `ambiguous`: there is a label, but its margin is below odds of 3 to 1.
    """

    label: str | None
    candidates: tuple[Scored, ...]
    at: GalleryThreshold
    margin: float | None
    ambiguous: bool


@dataclass(frozen=True)
class Explanation:
    """How unusual the best candidate's distance is, and the runner-up.

    `impostor_rank` is the share of pairs of different classes that are at least as near. `stranger_rank` is the share
    of strangers that are at least as near to some class of the gallery.
    """

    impostor_rank: float
    stranger_rank: float
    runner_up: Scored | None


def pair_threshold(calibration: Calibration, *, fmr: float | None, threshold: float | None) -> PairThreshold:
    """The threshold for a given FMR (1 % if neither is given), or the expected rates of a given threshold.

    Raises UnsupportedRateError for an FMR that is too small for the calibration's data.
    """
    if threshold is None:
        rate = _answerable(fmr, calibration.errors.smallest_fmr)
        threshold = calibration.threshold_at_fmr(rate)
        distance = calibration.errors.distance_at_fmr(rate)
    else:
        distance = _distance_at(calibration, threshold)
        rate = calibration.errors.fmr_at(distance)
    return PairThreshold(threshold, rate, FnmrEstimate(*calibration.errors.fnmr_at(distance)))


def gallery_threshold(
    calibration: Calibration, size: int, *, fpir: float | None, threshold: float | None
) -> GalleryThreshold:
    """The threshold for a given FPIR (1 % if neither is given) with `size` classes, or the rate of a given threshold.

    A stranger has a chance with every class, so the threshold rises with the size of the gallery.
    Raises UnsupportedRateError for an FPIR that is too small for the calibration's data.
    """
    if threshold is None:
        rate = _answerable(fpir, calibration.chances.smallest_fpir)
        return GalleryThreshold(calibration.threshold_at_fpir(rate, max(size, 1)), rate, size)
    return GalleryThreshold(threshold, _stranger_rank(calibration, _distance_at(calibration, threshold), size), size)


def decide(matches: Sequence[Matched], calibration: Calibration, at: GalleryThreshold) -> Decision:
    """Score `matches` (best first), and name the best one if it reaches the threshold."""
    candidates = _score(matches, calibration)
    known = bool(candidates) and candidates[0].similarity >= at.threshold
    margin = candidates[0].llr - candidates[1].llr if len(candidates) > 1 else None
    ambiguous = known and margin is not None and margin < AMBIGUOUS_MARGIN
    return Decision(candidates[0].label if known else None, candidates, at, margin, ambiguous)


def explain(decision: Decision, calibration: Calibration) -> Explanation | None:
    """Return how unusual the best candidate is; None without candidates."""
    if not decision.candidates:
        return None
    distance = decision.candidates[0].distance
    return Explanation(
        impostor_rank=calibration.errors.fmr_at(distance),
        stranger_rank=_stranger_rank(calibration, distance, decision.at.size),
        runner_up=decision.candidates[1] if len(decision.candidates) > 1 else None,
    )


def _answerable(rate: float | None, smallest: float) -> float:
    """The effective rate. Passing the default explicitly is the same as passing none."""
    if rate is not None and rate != DEFAULT_ERROR_RATE:
        return rate
    # below 1: fewer than 4 events support no rate at all, which the calibration reports
    return min(max(DEFAULT_ERROR_RATE, smallest), 1 - _EDGE)


def _score(matches: Sequence[Matched], calibration: Calibration) -> tuple[Scored, ...]:
    found = ((match, calibration.likelihood_ratio.of(match.distance)) for match in matches)
    return tuple(Scored(match.label, calibration.posterior(llr), match.distance, llr) for match, llr in found)


def _distance_at(calibration: Calibration, threshold: float) -> float:
    return max(0.0, calibration.distance_at(min(max(threshold, _EDGE), 1 - _EDGE)))


def _stranger_rank(calibration: Calibration, distance: float, size: int) -> float:
    """The share of strangers that are within `distance` of at least one of `size` classes."""
    if size == 0:
        return 0.0
    single = min(calibration.errors.fmr_at(distance), 1 - _EDGE)
    # the effect of look-alikes on the chances depends on the rate itself: start from independent classes
    rate = -math.expm1(size * math.log1p(-single))
    chances = calibration.chances.at(size, min(max(rate, _EDGE), 1 - _EDGE))
    return -math.expm1(chances * math.log1p(-single))
