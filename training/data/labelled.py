"""Labelled images in memory, before and after preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.preprocess import Preprocess


class DatasetError(Exception):
    """The data cannot be read; ``str(error)`` names the file and says why."""


class Selection(Sequence[Image.Image]):
    """A view of some of ``images``: lazily read images stay on disk."""

    def __init__(self, images: Sequence[Image.Image], kept: Sequence[int]) -> None:
        self._images = images
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> Selection: ...
    def __getitem__(self, place: int | slice) -> Image.Image | Selection:
        if isinstance(place, slice):
            return Selection(self._images, self._kept[place])
        return self._images[self._kept[place]]


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images. ``classes[i]`` is image i's class; ``groups[c]`` is class c's group (its alphabet).

    ``sources[i]`` is the maker of image i (its drawer), with the same number in every class of a group.
    """

    images: Sequence[Image.Image]
    classes: Sequence[int]
    sources: Sequence[int]
    class_names: Sequence[str]
    groups: Sequence[int]
    group_names: Sequence[str]

    def in_groups(self, names: Sequence[str]) -> LabelledImages:
        """Return only the images of the named groups, with classes and groups renumbered.

        Raises:
            DatasetError: a group of that name does not exist.
        """
        unknown = sorted(set(names) - set(self.group_names))
        if unknown:
            raise DatasetError(f"no such group: {', '.join(unknown)}; there are {', '.join(self.group_names)}")
        groups = {index for index, name in enumerate(self.group_names) if name in set(names)}
        return self.of_classes([index for index, group in enumerate(self.groups) if group in groups])

    def of_classes(self, classes: Sequence[int]) -> LabelledImages:
        """Return only the images of these classes, renumbered in this order; empty groups are dropped."""
        class_number = {old: new for new, old in enumerate(classes)}
        groups = sorted({self.groups[index] for index in classes})
        group_number = {old: new for new, old in enumerate(groups)}
        kept = [index for index, label in enumerate(self.classes) if label in class_number]
        return LabelledImages(
            images=Selection(self.images, kept),
            classes=[class_number[self.classes[index]] for index in kept],
            sources=[self.sources[index] for index in kept],
            class_names=[self.class_names[index] for index in classes],
            groups=[group_number[self.groups[index]] for index in classes],
            group_names=[self.group_names[index] for index in groups],
        )

    def of_sources(self, sources: Sequence[int]) -> LabelledImages:
        """Return only the images by these sources, or all images if ``sources`` is empty.

        Raises:
            DatasetError: a class has no image by these sources.
        """
        if not sources:
            return self
        kept = [index for index, source in enumerate(self.sources) if source in set(sources)]
        classes = [self.classes[index] for index in kept]
        bare = sorted(set(range(len(self.class_names))) - set(classes))
        if bare:
            raise DatasetError(f"{self.class_names[bare[0]]} has no image by {', '.join(map(str, sources))}")
        return replace(
            self, images=Selection(self.images, kept), classes=classes, sources=[self.sources[index] for index in kept]
        )

    def without_groups(self, names: Sequence[str]) -> LabelledImages:
        """Return all but the named groups."""
        self.in_groups(names)  # raises for unknown names
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
        """Number of classes."""
        return len(self.groups)


@dataclass(frozen=True)
class Drawings(PreparedImages):
    """Drawings (n, 4, 64, 64), RGB and straight alpha; ``weights`` (n_classes,) are sampling weights of the classes."""

    weights: Tensor


def prepare_pixels(images: Sequence[Image.Image], preprocess: Preprocess) -> Tensor:
    """Preprocess every image to bytes (n, channels, size, size); 8 bits hold the output of ``Preprocess`` exactly."""
    return torch.from_numpy(np.stack([np.rint(preprocess(image) * 255).astype(np.uint8) for image in images]))


def prepare(images: LabelledImages, preprocess: Preprocess) -> PreparedImages:
    """Preprocess every image once."""
    return PreparedImages(
        pixels=prepare_pixels(images.images, preprocess),
        classes=torch.tensor(images.classes),
        sources=torch.tensor(images.sources),
        groups=torch.tensor(images.groups),
    )
