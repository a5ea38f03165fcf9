"""The modified Hausdorff distance (Dubuisson and Jain, "A modified Hausdorff distance for object matching", 1994).

It is the baseline of Omniglot's demo, with 155 errors. Reproducing that number validates the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import KDTree

from model.distances import Vectors


def ink_points(image: Image.Image) -> npt.NDArray[np.float64]:
    """Return the coordinates (n, 2) of the dark pixels, centred on their mean, as in Omniglot's demo."""
    points = np.argwhere(np.asarray(image) < 128).astype(np.float64)
    centred: npt.NDArray[np.float64] = points - points.mean(axis=0)
    return centred


def modified_hausdorff(queries: Sequence[Image.Image], supports: Sequence[Image.Image]) -> Vectors:
    """Return distances (n_queries, n_supports): the larger of the two directed mean nearest-pixel distances."""
    asked, known = ([KDTree(ink_points(image)) for image in images] for images in (queries, supports))
    found = [[max(_directed(one, other), _directed(other, one)) for other in known] for one in asked]
    return np.array(found, np.float32)


def _directed(points: KDTree, target: KDTree) -> float:
    return float(np.mean(target.query(points.data)[0]))
