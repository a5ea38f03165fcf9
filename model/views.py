"""Several views of one image, whose mean embedding is more accurate than one view's, at that many times the cost.

Views are made from prepared images, after the crop to what is drawn: the first is the image itself, the others are
shifted by a pixel or two. What a strided network sees of a stroke depends on where its grid lies, and the mean over
shifts averages that out. On held-out background alphabets shifts helped more than turns, shears and other
scales, whether these were made before the crop or after it (``benchmarks/views.py`` prints the comparison).
"""

from __future__ import annotations

from typing import Final, cast, get_args

import numpy as np

from model.distances import Vectors
from model.manifest import Metric, Views
from model.preprocess import Prepared

SHIFT: Final = 0.04
"""How far a view is moved along each axis, as a share of the side."""

_SHIFTS: Final = ((0, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""Along x and y, in units of ``SHIFT``; the first n of them are balanced for n = 1, 3, 5 and 9."""

VIEWS: Final[tuple[int, ...]] = get_args(Views)
"""The numbers of views that may be asked for."""


def checked_views(n_views: int) -> Views:
    """Return ``n_views``; raises ValueError where it is none of ``VIEWS``."""
    if n_views not in VIEWS:
        raise ValueError(f"views are {', '.join(map(str, VIEWS))}, not {n_views}")
    return cast(Views, n_views)


def make_views(batch: Prepared, n_views: int) -> Prepared:
    """Return ``n_views`` views of each image of ``batch`` (n, channels, size, size), image by image.

    The result has shape (n * n_views, channels, size, size); the first view of each image is the image itself. It
    depends on nothing but the arguments. What comes in from outside an image repeats its edge.

    Raises:
        ValueError: ``n_views`` is none of ``VIEWS``.
    """
    n_views = checked_views(n_views)
    step = SHIFT * batch.shape[-1]
    views = [batch] + [_moved(_moved(batch, step * x, axis=3), step * y, axis=2) for x, y in _SHIFTS[1:n_views]]
    return np.ascontiguousarray(np.stack(views, 1).reshape(-1, *batch.shape[1:]))


def _moved(batch: Prepared, pixels: float, axis: int) -> Prepared:
    """Move images by a number of pixels, linearly between them; an edge goes on beyond itself."""
    side = batch.shape[axis]
    places = np.clip(np.arange(side) - pixels, 0, side - 1)
    before = np.floor(places).astype(np.intp)
    after = np.minimum(before + 1, side - 1)
    share = (places - before).astype(np.float32).reshape([-1 if at == axis else 1 for at in range(batch.ndim)])
    moved: Prepared = batch.take(before, axis) * (1 - share) + batch.take(after, axis) * share
    return moved


def pool_views(vectors: Vectors, n_views: int, metric: Metric) -> Vectors:
    """Return the mean index-form vector (n, dim) of each image's views, given as (n * n_views, dim).

    For cosine the mean is brought back to length 1.
    """
    if n_views == 1:
        return vectors
    pooled = vectors.reshape(-1, n_views, vectors.shape[1]).mean(axis=1, dtype=np.float32)
    if metric == "cosine":
        pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(pooled)
