"""Verification: a balanced set of genuine and impostor pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data.labelled import PreparedImages

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImagePairs:
    """Pairs of image indices (n, 2); ``same`` (n,) marks those of one class; ``groups`` (n,) is the first's group."""

    images: Ints
    same: npt.NDArray[np.bool_]
    groups: Ints


def balanced_pairs(data: PreparedImages, *, n_pairs: int, within: bool, seed: int) -> ImagePairs:
    """Draw pairs as in Koch, Zemel and Salakhutdinov (2015): half genuine, half impostor, always by two drawers.

    Args:
        within: draw impostors from one alphabet, where look-alikes are; otherwise from all alphabets.
    """
    rng = np.random.default_rng(seed)
    classes, sources, groups = (part.numpy() for part in (data.classes, data.sources, data.groups))
    first = rng.integers(len(classes), size=n_pairs)
    same = np.arange(n_pairs) % 2 == 0
    by_class = [np.flatnonzero(classes == label) for label in range(data.n_classes)]
    by_group = [np.flatnonzero(groups[classes] == group) for group in range(int(groups.max()) + 1)]
    everyone = np.arange(len(classes))
    second = np.empty(n_pairs, np.int64)
    for pair, image in enumerate(first):
        label = classes[image]
        pool = by_class[label] if same[pair] else by_group[groups[label]] if within else everyone
        second[pair] = _partner(rng, pool, image, classes, sources, same=bool(same[pair]))
    return ImagePairs(np.stack([first, second], 1), same, groups[classes[first]])


def _partner(rng: np.random.Generator, pool: Ints, image: int, classes: Ints, sources: Ints, *, same: bool) -> int:
    """Return an image from the pool by another drawer, of the same class if ``same``, else of another."""
    while True:
        other = int(rng.choice(pool))
        if sources[other] != sources[image] and (classes[other] == classes[image]) == same:
            return other
