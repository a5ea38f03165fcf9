"""What a distance means: the probability of "same class", and the threshold for a wanted error rate.

Fitted by ``training.calibrate`` on classes that the network never saw. The log-likelihood ratio of "same" against
"different" is a falling line in the distance (Platt 1999), so that ranking by similarity is ranking by distance.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

Floats = npt.NDArray[np.float64]


class ErrorCurve(BaseModel):
    """The share of ``n_pairs`` pairs at or below each of ``distances``; both ascend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rates: tuple[float, ...] = Field(min_length=2)
    distances: tuple[float, ...] = Field(min_length=2)
    n_pairs: int = Field(gt=0)

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if len(self.rates) != len(self.distances):
            raise ValueError("rates and distances differ in length")
        if any(np.diff(self.rates) <= 0) or any(np.diff(self.distances) < 0):
            raise ValueError("an error curve ascends")
        if not 0 < self.rates[0] < self.rates[-1] < 1:
            raise ValueError("rates lie between 0 and 1")
        return self

    def distance_at(self, rate: float) -> float:
        """Return the distance that a share ``rate`` of the pairs does not exceed.

        Between the points the logarithm of the rate is interpolated; below the smallest rate the curve goes on as an
        exponential tail whose slope is that of the lowest tenfold of rates.
        """
        logs, distances = np.log(self.rates), np.asarray(self.distances)
        target = math.log(rate)
        if target >= logs[0]:
            return float(np.interp(target, logs, distances))
        reach = int(np.searchsorted(logs, logs[0] + math.log(10)))
        reach = min(max(reach, 1), len(logs) - 1)
        slope = max((distances[reach] - distances[0]) / (logs[reach] - logs[0]), 1e-9)
        return float(distances[0] + slope * (target - logs[0]))

    def rate_at(self, distance: float) -> float:
        """Return the share of pairs at or below ``distance``, within the range that was measured."""
        return float(np.exp(np.interp(distance, self.distances, np.log(self.rates))))


class Calibration(BaseModel):
    """Maps distances to probabilities and error rates to thresholds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(gt=0, description="Fall of the log-likelihood ratio per unit of distance.")
    intercept: float = Field(description="Log-likelihood ratio at distance 0.")
    prior: float = Field(default=0.5, gt=0, lt=1, description="Probability of 'same' before looking.")
    impostor: ErrorCurve = Field(description="Distances of pairs of different classes.")
    genuine: ErrorCurve = Field(description="Distances of pairs of one class.")
    n_classes: int = Field(gt=1)
    source: str = Field(description="The images that it was fitted on.")

    def log_likelihood_ratio(self, distance: npt.ArrayLike) -> Floats:
        """Return log p(distance | same) / p(distance | different), elementwise."""
        return self.intercept - self.slope * np.asarray(distance, dtype=np.float64)

    def probability(self, distance: npt.ArrayLike) -> Floats:
        """Return the probability in [0, 1], elementwise, that pairs at these distances show one class."""
        log_odds = self.log_likelihood_ratio(distance) + _logit(self.prior)
        # exp of minus the magnitude cannot overflow.
        small = np.exp(-np.abs(log_odds))
        return np.where(log_odds >= 0, 1 / (1 + small), small / (1 + small))

    def distance_at(self, probability: float) -> float:
        """Return the distance at which ``probability``, in (0, 1), is reached; the inverse of ``probability``."""
        return (self.intercept + _logit(self.prior) - _logit(probability)) / self.slope

    def threshold_at_fmr(self, fmr: float) -> float:
        """Return the similarity that pairs of different classes reach at the rate ``fmr``, in (0, 1)."""
        return float(self.probability(self.impostor.distance_at(fmr)))


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)
