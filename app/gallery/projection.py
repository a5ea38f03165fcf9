"""A map of a gallery: its vectors in two dimensions, and who is near whom in all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.distances import Vectors, distances_to
from model.manifest import Metric

F64 = npt.NDArray[np.float64]

#: Vectors that are compared with all others at a time: 512 x 2000 distances are 8 MB.
_BLOCK = 512
#: Neighbours looked at beyond those wanted, because the quick order is rounded.
_MARGIN = 8
#: Of the greatest variance: what is less is rounding.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Projection:
    """Points (n, 2), around (0, 0), and the share of the variance, 0 to 1, that the two axes hold."""

    points: F64
    explained: float


@dataclass(frozen=True)
class Neighbours:
    """For each of n vectors the places of the nearest others, nearest first, and their distances: both (n, k)."""

    places: npt.NDArray[np.int64]
    distances: Vectors


def project(vectors: Vectors) -> Projection:
    """Lay vectors (n, D) onto their two principal axes.

    The same vectors give the same picture: an axis points to where its largest weight is positive.
    """
    centred = vectors.astype(np.float64) - (vectors.mean(axis=0, dtype=np.float64) if len(vectors) else 0.0)
    total = float(np.square(centred).sum())
    if total == 0.0:  # none, one, or several of the same
        return Projection(np.zeros((len(vectors), 2)), 1.0)
    axes = _principal_axes(centred)
    axes = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, np.newaxis]
    points = centred @ axes.T
    return Projection(points, min(1.0, float(np.square(points).sum()) / total))


def _principal_axes(centred: F64) -> F64:
    """The two axes (2, D) of greatest variance of rows (n, D), of length 1, or 0 where nothing is left to vary.

    From the smaller of the two matrices of products: an SVD of 2,000 rows takes many times as long. By numpy, as
    scipy would hold the interpreter's lock meanwhile, and with it everybody.
    """
    n, dim = centred.shape
    products = centred.T @ centred if dim <= n else centred @ centred.T
    squares, found = (part[..., -2:] for part in np.linalg.eigh(products))
    axes = np.zeros((2, dim))
    for place, (square, vector) in enumerate(zip(squares[::-1], found.T[::-1], strict=True)):
        if square > _NOTHING * squares[-1]:
            axes[place] = vector if dim <= n else centred.T @ vector / np.sqrt(square)
    return axes


def nearest(metric: Metric, vectors: Vectors, k: int) -> Neighbours:
    """Find for each of the vectors (n, D) the `k` nearest others (n - 1, if there are fewer), by the true distance."""
    n = len(vectors)
    k = max(0, min(k, n - 1))
    places, found = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    for start in range(0, n, _BLOCK) if k else ():
        proposed = _propose(metric, vectors[start : start + _BLOCK], vectors, start, min(k + _MARGIN, n - 1))
        for row, candidates in enumerate(proposed, start):
            exact = distances_to(metric, vectors[row], vectors[candidates])
            order = np.argsort(exact, kind="stable")[:k]
            places[row], found[row] = candidates[order], exact[order]
    return Neighbours(places, found)


def _propose(metric: Metric, block: Vectors, vectors: Vectors, start: int, count: int) -> npt.NDArray[np.int64]:
    """Places of `count` near others for each vector of the block, ascending: quick, and right up to rounding."""
    from scipy.spatial.distance import cdist  # noqa: PLC0415 - slow to import, and few ask for maps

    rough = cdist(block, vectors, "cityblock") if metric == "l1" else _squared(block, vectors)
    rows = np.arange(len(block))
    rough[rows, start + rows] = np.inf  # nobody is a neighbour of itself
    return np.sort(np.argpartition(rough, count - 1, axis=1)[:, :count], axis=1)


def _squared(block: Vectors, vectors: Vectors) -> F64:
    """Squared Euclidean distances; of unit vectors they rank as the cosine does."""
    wide, others = block.astype(np.float64), vectors.astype(np.float64)
    squares: F64 = np.square(others).sum(axis=1) - 2 * wide @ others.T + np.square(wide).sum(axis=1)[:, np.newaxis]
    return squares
