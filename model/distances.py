"""The one distance that every part of the service uses. Needs no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.manifest import Metric

Vectors = npt.NDArray[np.float32]


def paired_distances(metric: Metric, queries: Vectors, supports: Vectors) -> Vectors:
    """Return the distance, shape (n,), of each query to the support beside it; both have shape (n, dim)."""
    pairs = zip(queries, supports, strict=True)
    return np.array([distances(metric, query[None], support[None])[0, 0] for query, support in pairs], np.float32)


def distances(metric: Metric, queries: Vectors, supports: Vectors) -> Vectors:
    """Return distances, shape (n, m), between index-form vectors of shape (n, dim) and (m, dim).

    This is the one definition of distance in the service: verification uses it on two images, and the gallery
    on the candidates that its index proposes, so that both give the same number.
    """
    # Row by row: it keeps intermediate results at (m, dim), and a matrix product would round each pair differently
    # depending on what stands beside it.
    if metric == "cosine":
        found = np.stack([1 - (supports * query).sum(axis=1) for query in queries])
    else:
        order = 1 if metric == "l1" else 2
        found = np.stack([np.linalg.norm(supports - query, ord=order, axis=1) for query in queries])
    clipped: Vectors = np.maximum(found, 0).astype(np.float32)
    return clipped
