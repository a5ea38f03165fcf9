"""Calibration of distances: the probability of "same class", and the threshold for a target error rate.

Fitted by ``model.calibrating`` on classes that the network never saw. Everything here is monotone in the distance, so
ranking by similarity equals ranking by distance. Rates follow ISO/IEC 19795: FMR (an impostor pair is accepted), FNMR
(a genuine pair is rejected), FPIR (a stranger is identified as a class of a gallery of N).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = npt.NDArray[np.float64]
Method = Literal["platt", "beta", "isotonic"]

RULE_OF_THREE = 3
"""With no event in n trials the rate is below 3/n with 95 % confidence: the smallest rate that n trials support."""

LEAST_GENUINE = 100
LEAST_IMPOSTOR = 1_000
LEAST_CLASSES = 10
"""Least numbers of genuine pairs, impostor pairs and classes for a calibration."""

#: Most entries (rate, gallery size) in the cache of distances.
_REMEMBERED = 256


class UnsupportedRateError(ValueError):
    """The rate is too small for the data; ``smallest`` is the smallest rate that the data support."""

    def __init__(self, name: str, rate: float, smallest: float) -> None:
        super().__init__(f"{name} {rate:g} is too small for the calibration's data; the smallest is {smallest:.2g}")
        self.smallest = smallest


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LikelihoodRatio(_Table):
    """The log-likelihood ratio of "same" against "different": linear between knots, extrapolated beyond the ends."""

    distances: tuple[float, ...] = Field(min_length=2)
    values: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _falls(self) -> Self:
        _require(len(self.distances) == len(self.values), "distances and values differ in length")
        _require(all(a < b for a, b in pairwise(self.distances)), "the distances ascend")
        _require(all(a > b for a, b in pairwise(self.values)), "the ratio falls with the distance")
        return self

    def at(self, distance: npt.ArrayLike) -> Floats:
        """Return log p(distance | same) - log p(distance | different), elementwise."""
        return _line(np.asarray(distance, dtype=np.float64), *self._table)

    def of(self, distance: float) -> float:
        """Return what ``at`` returns, for one distance: a scalar version that is much faster."""
        xs, ys = self.distances, self.values
        place = min(max(bisect_right(xs, distance), 1), len(xs) - 1)
        weight = (distance - xs[place - 1]) / (xs[place] - xs[place - 1])
        return ys[place - 1] + weight * (ys[place] - ys[place - 1])

    def distance_at(self, value: float) -> float:
        """Return the distance at which the ratio is ``value``."""
        distances, values = self._table
        return float(_line(np.array([-value]), -values, distances)[0])

    @cached_property
    def _table(self) -> tuple[Floats, Floats]:
        return np.array(self.distances), np.array(self.values)


class ErrorRates(_Table):
    """FMR and FNMR if pairs up to each of ``distances`` are accepted; the FNMR with its 95 % interval.

    The interval is bootstrapped over classes. The FMR is counted where at least 30 impostor pairs are below a distance.
    At smaller distances it follows a generalised Pareto tail fitted to the nearest pairs.
    """

    distances: tuple[float, ...] = Field(min_length=2)
    fmr: tuple[float, ...]
    fnmr: tuple[float, ...]
    fnmr_low: tuple[float, ...]
    fnmr_high: tuple[float, ...]
    n_impostor: int = Field(gt=0)
    n_genuine: int = Field(gt=0)

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        columns = (self.fmr, self.fnmr, self.fnmr_low, self.fnmr_high)
        _require(all(len(column) == len(self.distances) for column in columns), "the columns differ in length")
        _require(all(a < b for a, b in pairwise(self.distances)), "the distances ascend")
        _require(all(a < b for a, b in pairwise(self.fmr)), "the FMR ascends")
        _require(self.fmr[0] > 0 and self.fmr[-1] <= 1, "the FMR lies between 0 and 1")
        return self

    @property
    def smallest_fmr(self) -> float:
        """The smallest FMR that the number of pairs supports."""
        return RULE_OF_THREE / self.n_impostor

    def distance_at_fmr(self, fmr: float) -> float:
        """Return the distance below which a share ``fmr`` of the impostor pairs lie."""
        distances, log_fmr = self._table
        return float(_line(np.array([math.log(fmr)]), log_fmr, distances)[0])

    def fmr_at(self, distance: float) -> float:
        """Return the share of impostor pairs that are at least as near."""
        log_rate = float(_line(np.array([distance]), *self._table)[0])
        return math.exp(min(log_rate, 0.0))

    @cached_property
    def _table(self) -> tuple[Floats, Floats]:
        return np.array(self.distances), np.log(self.fmr)

    def fnmr_at(self, distance: float) -> tuple[float, float, float]:
        """Return the FNMR at ``distance`` and the ends of its interval."""
        columns = (self.fnmr, self.fnmr_low, self.fnmr_high)
        value, low, high = (float(np.interp(distance, self.distances, column)) for column in columns)
        return value, low, high


class Chances(_Table):
    """How many independent chances a stranger has in a gallery of N classes, as a share of N.

    Look-alike classes are matched together, so N classes are worth fewer than N chances. ``shares[i][j]`` is the share
    for ``sizes[i]`` classes at the FPIR ``rates[j]``, measured by enrolling and searching held-out classes. It changes
    slowly; outside the table the nearest edge is used.
    """

    sizes: tuple[int, ...] = Field(min_length=1)
    rates: tuple[float, ...] = Field(min_length=1)
    shares: tuple[tuple[float, ...], ...]
    n_strangers: int = Field(gt=0)

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        _require(len(self.shares) == len(self.sizes), "there is a row for each size")
        _require(all(len(row) == len(self.rates) for row in self.shares), "there is a column for each rate")
        _require(all(share > 0 for row in self.shares for share in row), "shares are positive")
        return self

    @property
    def smallest_fpir(self) -> float:
        """The smallest FPIR that the number of strangers supports."""
        return RULE_OF_THREE / self.n_strangers

    def at(self, size: int, fpir: float) -> float:
        """Return the number of independent chances that ``size`` classes are worth at ``fpir``."""
        log_sizes, log_rates, shares = self._table
        by_size = [np.interp(math.log(fpir), log_rates, row) for row in shares]
        return size * float(np.interp(math.log(size), log_sizes, by_size))

    @cached_property
    def _table(self) -> tuple[Floats, Floats, Floats]:
        return np.log(self.sizes), np.log(self.rates), np.array(self.shares)


class Quality(_Table):
    """How well the probabilities fit unseen pairs (cross-validated over classes, prior 0.5)."""

    log_loss: float = Field(ge=0, description="In nats for a pair; 0.693 would be a coin's.")
    ece: float = Field(ge=0, le=1, description="Expected calibration error over 15 bins of equal width.")
    predicted: tuple[float, ...] = Field(description="Mean probability in each bin that is not empty.")
    observed: tuple[float, ...] = Field(description="Share of pairs of one class in it.")
    rejected: dict[str, float] = Field(description="Log-loss of the other methods.")


class Calibration(_Table):
    """Maps distances to probabilities (similarities), and target error rates to thresholds."""

    method: Method
    likelihood_ratio: LikelihoodRatio
    prior: float = Field(default=0.5, gt=0, lt=1, description="Probability of 'same' before looking.")
    errors: ErrorRates
    chances: Chances
    quality: Quality
    n_classes: int = Field(gt=1)
    source: str = Field(description="The images that it was fitted on.")

    def with_prior(self, prior: float) -> Calibration:
        """Return the same calibration for another prior, in (0, 1)."""
        return self.model_copy(update={"prior": prior})

    def log_likelihood_ratio(self, distance: npt.ArrayLike) -> Floats:
        """Return the evidence for "same" at these distances, elementwise, in nats, without the prior."""
        return self.likelihood_ratio.at(distance)

    def probability(self, distance: npt.ArrayLike) -> Floats:
        """Return the probability in [0, 1], elementwise, that pairs at these distances show one class."""
        log_odds = self.log_likelihood_ratio(distance) + logit(self.prior)
        # exp of minus the magnitude cannot overflow.
        small = np.exp(-np.abs(log_odds))
        return np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small))

    def similarity(self, distance: float) -> float:
        """Return the probability for one distance: the similarity in the API's answers."""
        return self.posterior(self.likelihood_ratio.of(distance))

    def posterior(self, evidence: float) -> float:
        """Return the posterior probability of "same", in [0, 1], from the evidence in nats and the prior."""
        log_odds = evidence + logit(self.prior)
        small = math.exp(-abs(log_odds))
        return (1 if log_odds >= 0 else small) / (1 + small)

    def distance_at(self, probability: float) -> float:
        """Return the distance at which ``probability``, in (0, 1), is reached; the inverse of ``probability``."""
        return self.likelihood_ratio.distance_at(logit(probability) - logit(self.prior))

    def threshold_at_fmr(self, fmr: float) -> float:
        """Return the similarity that a share ``fmr``, in (0, 1), of impostor pairs reach.

        Raises:
            UnsupportedRateError: the calibration had too few pairs for this rate.
        """
        if fmr < self.errors.smallest_fmr:
            raise UnsupportedRateError("fmr", fmr, self.errors.smallest_fmr)
        return self.similarity(self.errors.distance_at_fmr(fmr))

    def threshold_at_fpir(self, fpir: float, size: int) -> float:
        """Return the similarity that a share ``fpir``, in (0, 1), of strangers reach with any of ``size`` classes.

        Raises:
            UnsupportedRateError: the calibration had too few strangers for this rate.
        """
        if fpir < self.chances.smallest_fpir:
            raise UnsupportedRateError("fpir", fpir, self.chances.smallest_fpir)
        return self.similarity(self._distance_at_fpir(fpir, size))

    def _distance_at_fpir(self, fpir: float, size: int) -> float:
        known = self._distances_at_fpir
        if (fpir, size) not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            fmr = -math.expm1(math.log1p(-fpir) / self.chances.at(size, fpir))
            known[fpir, size] = self.errors.distance_at_fmr(fmr)
        return known[fpir, size]

    @cached_property
    def _distances_at_fpir(self) -> dict[tuple[float, int], float]:
        # A cache: the same gallery is usually asked for again. Copies with another prior may share it.
        return {}


def logit(probability: float) -> float:
    """Return the log-odds of a probability in (0, 1)."""
    return math.log(probability) - math.log1p(-probability)


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(f"not so: {rule}")


def _line(x: Floats, xs: Floats, ys: Floats) -> Floats:
    """Interpolate linearly between the points (xs, ys), xs ascending, and extrapolate linearly beyond both ends."""
    place = np.clip(np.searchsorted(xs, x, side="right"), 1, len(xs) - 1)
    left, right = xs[place - 1], xs[place]
    weight = (x - left) / (right - left)
    line: Floats = ys[place - 1] + weight * (ys[place] - ys[place - 1])
    return line
