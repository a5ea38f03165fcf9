"""Labelled images in memory, before and after preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.preprocess import Preprocess


class DatasetError(Exception):
    """The data cannot be read; ``str(error)`` names the file and says why."""


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images. ``classes[i]`` is image i's class; ``groups[c]`` is class c's group (its alphabet).

    ``sources[i]`` says who made image i (its drawer), the same number in every class of a group.
    """

    images: Sequence[Image.Image]
    classes: Sequence[int]
    sources: Sequence[int]
    class_names: Sequence[str]
    groups: Sequence[int]
    group_names: Sequence[str]

    def in_groups(self, names: Sequence[str]) -> LabelledImages:
        """Return only the images of the named groups, with classes and groups numbered anew.

        Raises:
            DatasetError: a group of that name does not exist.
        """
        unknown = sorted(set(names) - set(self.group_names))
        if unknown:
            raise DatasetError(f"no such group: {', '.join(unknown)}; there are {', '.join(self.group_names)}")
        groups = [index for index, name in enumerate(self.group_names) if name in set(names)]
        classes = [index for index, group in enumerate(self.groups) if group in set(groups)]
        class_number = {old: new for new, old in enumerate(classes)}
        group_number = {old: new for new, old in enumerate(groups)}
        kept = [index for index, label in enumerate(self.classes) if label in class_number]
        return LabelledImages(
            images=[self.images[index] for index in kept],
            classes=[class_number[self.classes[index]] for index in kept],
            sources=[self.sources[index] for index in kept],
            class_names=[self.class_names[index] for index in classes],
            groups=[group_number[self.groups[index]] for index in classes],
            group_names=[self.group_names[index] for index in groups],
        )

    def without_groups(self, names: Sequence[str]) -> LabelledImages:
        """Return all but the named groups."""
        self.in_groups(names)  # refuses unknown names
        return self.in_groups([name for name in self.group_names if name not in set(names)])


@dataclass(frozen=True)
class PreparedImages:
    """Preprocessed images as bytes: ``pixels`` (n, channels, size, size), ``classes`` (n,), ``groups`` (n_classes,)."""

    pixels: Tensor
    classes: Tensor
    sources: Tensor
    groups: Tensor

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.groups)


def prepare_pixels(images: Sequence[Image.Image], preprocess: Preprocess) -> Tensor:
    """Preprocess every image to bytes, shape (n, channels, size, size); 8 bits hold what ``Preprocess`` computes."""
    return torch.from_numpy(np.stack([np.rint(preprocess(image) * 255).astype(np.uint8) for image in images]))


def prepare(images: LabelledImages, preprocess: Preprocess) -> PreparedImages:
    """Preprocess every image once."""
    return PreparedImages(
        pixels=prepare_pixels(images.images, preprocess),
        classes=torch.tensor(images.classes),
        sources=torch.tensor(images.sources),
        groups=torch.tensor(images.groups),
    )
