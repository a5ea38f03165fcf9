"""The distance that every part of the service uses. Needs no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.manifest import Metric

Vectors = npt.NDArray[np.float32]


def distances_to(metric: Metric, query: Vectors, supports: Vectors) -> Vectors:
    """Return the distances, shape (m,), of a query of shape (dim,) to supports of shape (m, dim), in index form.

    The only definition of distance in the service: verification uses it for two images, and the gallery for the
    candidates from its index, so both return the same number.
    """
    # Not a matrix product: its rounding of one pair depends on the other rows of the batch.
    if metric == "cosine":
        found = 1 - (supports * query).sum(axis=1)
    else:
        found = np.linalg.norm(supports - query, ord=1 if metric == "l1" else 2, axis=1)
    clipped: Vectors = np.maximum(found, 0).astype(np.float32, copy=False)
    return clipped


def distances(metric: Metric, queries: Vectors, supports: Vectors) -> Vectors:
    """Return ``distances_to`` each of the queries, shape (n, m), from vectors of shape (n, dim) and (m, dim)."""
    return np.stack([distances_to(metric, query, supports) for query in queries])


def paired_distances(metric: Metric, queries: Vectors, supports: Vectors) -> Vectors:
    """Return the distance, shape (n,), of each query to the support at the same index; both have shape (n, dim)."""
    pairs = zip(queries, supports, strict=True)
    return np.array([distances_to(metric, query, support[None])[0] for query, support in pairs], np.float32)
