"""Several views of one image, whose mean embedding is more accurate than one view's, at that many times the cost.

Views are made from prepared images, after the crop to what is drawn: the first is the image itself, the others are
shifted by a fraction of a pixel and more. What a strided network sees of a stroke depends on where its grid lies, and the
mean over shifts averages that out. On held-out background alphabets shifts helped more than turns, shears and other
scales, whether these were made before the crop or after it (``benchmarks/views.py`` prints the comparison).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from model.distances import Vectors
from model.manifest import Metric
from model.preprocess import Prepared

SHIFT: Final = 0.04
"""How far a view is moved along each axis, as a share of the side."""

_SHIFTS: Final = ((0, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1))
"""Along x and y, in units of ``SHIFT``; the first n of them are balanced for n = 1, 3, 5 and 9."""

VIEWS: Final = (1, 3, 5, 9)
"""The numbers of views that may be asked for."""


def make_views(batch: Prepared, n_views: int) -> Prepared:
    """Return ``n_views`` views of each image of ``batch`` (n, channels, size, size), image by image.

    The result has shape (n * n_views, channels, size, size); the first view of each image is the image itself. It
    depends on nothing but the arguments. What comes in from outside an image repeats its edge.

    Raises:
        ValueError: ``n_views`` is none of ``VIEWS``.
    """
    if n_views not in VIEWS:
        raise ValueError(f"views are {', '.join(map(str, VIEWS))}, not {n_views}")
    if n_views == 1:
        return batch
    images = torch.from_numpy(batch)
    views = [images]
    for x, y in _SHIFTS[1:n_views]:
        # In the coordinates of affine_grid an image is 2 wide; the map goes from the view to the image.
        move = torch.tensor([[1.0, 0.0, -2 * SHIFT * x], [0.0, 1.0, -2 * SHIFT * y]])
        grid = F.affine_grid(move.expand(len(images), 2, 3), list(images.shape), align_corners=False)
        views.append(F.grid_sample(images, grid, padding_mode="border", align_corners=False))
    stacked: Prepared = torch.stack(views, 1).flatten(0, 1).numpy()
    return stacked


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
