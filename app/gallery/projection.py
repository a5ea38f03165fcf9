"""A map of a gallery: its vectors in two dimensions, and the nearest neighbours in the full space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.distances import Vectors, distances_to
from model.manifest import Metric

F64 = npt.NDArray[np.float64]

#: Vectors compared with all others at a time: 512 x 2000 distances are 8 MB.
_BLOCK = 512
#: Candidates beyond the wanted neighbours, because the fast ranking has rounding errors.
_MARGIN = 8
#: Share of the greatest variance below which a variance is rounding error.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Projection:
    """Points (n, 2), centred on (0, 0), and the share of the variance, 0 to 1, that the two axes explain."""

    points: F64
    explained: float


@dataclass(frozen=True)
class Neighbours:
    """For each of n vectors: the places of the nearest others, nearest first, and their distances. Both (n, k)."""

    places: npt.NDArray[np.int64]
    distances: Vectors


def project(vectors: Vectors) -> Projection:
    """Project vectors (n, D) onto their two principal axes.

    The same vectors give the same map: the sign of an axis makes its largest weight positive.
    """
    centred = vectors.astype(np.float64) - (vectors.mean(axis=0, dtype=np.float64) if len(vectors) else 0.0)
    total = float(np.square(centred).sum())
    if total == 0.0:  # no vector, one, or equal ones
        return Projection(np.zeros((len(vectors), 2)), 1.0)
    axes = _principal_axes(centred)
    axes = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, np.newaxis]
    points = centred @ axes.T
    return Projection(points, min(1.0, float(np.square(points).sum()) / total))


def _principal_axes(centred: F64) -> F64:
    """The two axes (2, D) of greatest variance of rows (n, D), of length 1, or 0 where no variance is left.

    Computed from the smaller of the two product matrices: an SVD of 2,000 rows takes many times as long. By numpy,
    because scipy would hold the interpreter's lock and block all other threads.
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
    """Find the `k` nearest others (n - 1, if there are fewer) of each of the vectors (n, D), by exact distance."""
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
    """Places of `count` near others of each vector in the block, ascending. Fast, and right up to rounding."""
    from scipy.spatial.distance import cdist  # noqa: PLC0415 - slow to import, and few ask for maps

    rough = cdist(block, vectors, "cityblock") if metric == "l1" else _squared(block, vectors)
    rows = np.arange(len(block))
    rough[rows, start + rows] = np.inf  # a vector is not its own neighbour
    return np.sort(np.argpartition(rough, count - 1, axis=1)[:, :count], axis=1)


def _squared(block: Vectors, vectors: Vectors) -> F64:
    """Squared Euclidean distances. For unit vectors they rank as the cosine distance does."""
    wide, others = block.astype(np.float64), vectors.astype(np.float64)
    squares: F64 = np.square(others).sum(axis=1) - 2 * wide @ others.T + np.square(wide).sum(axis=1)[:, np.newaxis]
    return squares
