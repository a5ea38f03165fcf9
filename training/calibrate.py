"""Fit what a distance means on classes that the network never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression

from model.calibration import Calibration, ErrorCurve
from model.manifest import Metric
from model.similarity import Vectors, tensor_distances
from training.data.labelled import DatasetError

Floats = npt.NDArray[np.float64]

PLATT_PAIRS = 200_000
"""Impostor pairs that the probability is fitted on; the error curve uses all of them."""

SMALLEST_TAIL = 30
"""Pairs below the smallest rate of a curve: fewer would make its end a matter of luck."""


@dataclass(frozen=True)
class PairDistances:
    """Distances of all pairs of different images: of one class (``genuine``) and of two (``impostor``), sorted."""

    genuine: Floats
    impostor: Floats
    n_classes: int


def pair_distances(metric: Metric, vectors: Vectors, classes: npt.NDArray[np.int64]) -> PairDistances:
    """Compare every pair of index-form ``vectors`` (n, dim) with ``classes`` (n,), each pair once."""
    points, labels = torch.from_numpy(vectors), torch.from_numpy(classes)
    genuine, impostor = [], []
    for start in range(0, len(points), 512):
        rows = slice(start, start + 512)
        found = tensor_distances(metric, points[rows], points)
        once = torch.arange(len(points))[None, :] > torch.arange(len(points))[rows, None]
        same = labels[rows, None] == labels[None, :]
        genuine.append(found[same & once])
        impostor.append(found[~same & once])
    return PairDistances(_sorted(genuine), _sorted(impostor), len(np.unique(classes)))


def _sorted(parts: list[torch.Tensor]) -> Floats:
    return np.sort(torch.cat(parts).clamp_min(0).double().numpy())


def fit_calibration(pairs: PairDistances, *, source: str, prior: float = 0.5) -> Calibration:
    """Fit the probability (Platt 1999, both outcomes weighing the same) and the two error curves.

    Raises:
        DatasetError: too few pairs of either kind for an error curve, or distances that tell nothing.
    """
    needed = 10 * SMALLEST_TAIL
    if min(len(pairs.genuine), len(pairs.impostor)) < needed:
        raise DatasetError(
            f"a calibration needs {needed} pairs of one class and of two; "
            f"there are {len(pairs.genuine)} and {len(pairs.impostor)}"
        )
    slope, intercept = _platt(pairs)
    if slope <= 0:
        raise DatasetError("pairs of one class are no nearer than pairs of two; these distances tell nothing")
    return Calibration(
        slope=slope,
        intercept=intercept,
        prior=prior,
        impostor=_curve(pairs.impostor),
        genuine=_curve(pairs.genuine),
        n_classes=pairs.n_classes,
        source=source,
    )


def _platt(pairs: PairDistances) -> tuple[float, float]:
    """Return slope and intercept of the falling log-likelihood ratio."""
    stride = max(1, len(pairs.impostor) // PLATT_PAIRS)
    impostor = pairs.impostor[::stride]
    distances = np.concatenate([pairs.genuine, impostor])
    same = np.concatenate([np.ones(len(pairs.genuine)), np.zeros(len(impostor))])
    # Unregularised in effect: C is large, and the feature is scaled to unit spread.
    spread = float(distances.std()) or 1.0
    line = LogisticRegression(C=1e6, class_weight="balanced").fit(distances[:, None] / spread, same)
    return float(-line.coef_[0, 0] / spread), float(line.intercept_[0])


def _curve(ordered: Floats) -> ErrorCurve:
    """Return the lower tail finely, in steps of equal ratio, and the rest coarsely."""
    smallest = SMALLEST_TAIL / len(ordered)
    tail = np.geomspace(smallest, 0.1, 60) if smallest < 0.1 else np.array([smallest])
    rates = np.unique(np.concatenate([tail, np.arange(0.15, 0.96, 0.05), 1 - np.geomspace(0.04, 0.001, 12)]))
    distances = np.quantile(ordered, rates)
    return ErrorCurve(rates=tuple(rates.tolist()), distances=tuple(distances.tolist()), n_pairs=len(ordered))
