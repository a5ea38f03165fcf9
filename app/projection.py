"""A map of a gallery: its vectors in two dimensions, and who is near whom in all of them. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.manifest import Metric
from model.similarity import distances

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Vectors that are compared with all others at a time: 512 x 2000 distances are 4 MB.
_BLOCK = 512


@dataclass(frozen=True)
class Projection:
    """Points (n, 2), around (0, 0), and the share of the variance, 0 to 1, that the two axes hold."""

    points: F64
    explained: float


@dataclass(frozen=True)
class Neighbours:
    """For each of n vectors the places of the nearest others, nearest first, and their distances: both (n, k)."""

    places: npt.NDArray[np.int64]
    distances: F32


def project(vectors: F32) -> Projection:
    """Lay vectors (n, D) onto their two principal axes.

    The same vectors give the same picture: an axis points to where its largest weight is positive.
    """
    centred = vectors.astype(np.float64) - (vectors.mean(axis=0, dtype=np.float64) if len(vectors) else 0.0)
    total = float(np.square(centred).sum())
    if total == 0.0:  # none, one, or several of the same
        return Projection(np.zeros((len(vectors), 2)), 1.0)
    _, strengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, np.newaxis]
    points = np.zeros((len(vectors), 2))
    points[:, : len(axes)] = centred @ axes.T
    return Projection(points, min(1.0, float(np.square(strengths[:2]).sum()) / total))


def nearest(metric: Metric, vectors: F32, k: int) -> Neighbours:
    """Find for each of the vectors (n, D) the `k` nearest others (n - 1, if there are fewer), by the true distance."""
    n = len(vectors)
    k = max(0, min(k, n - 1))
    places, found = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    for start in range(0, n, _BLOCK):
        block = distances(metric, vectors[start : start + _BLOCK], vectors)
        rows = np.arange(len(block))
        block[rows, start + rows] = np.inf  # nobody is a neighbour of itself
        order = np.argsort(block, axis=1, kind="stable")[:, :k]
        places[start : start + _BLOCK] = order
        found[start : start + _BLOCK] = np.take_along_axis(block, order, axis=1)
    return Neighbours(places, found)
