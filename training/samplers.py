"""Batches of P classes x K images, drawn alphabet by alphabet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.labelled import DatasetError, PreparedImages
from training.recipe import SamplerPart

QUARTER_TURNS = 4


@dataclass(frozen=True)
class Batch:
    """``images`` (P, K, channels, side, side) in [0, 1] and ``classes`` (P,); a rotated class is a class of its own."""

    images: Tensor
    classes: Tensor


class ClassSampler:
    """Draws P different classes and K different images of each.

    Classes are drawn alphabet by alphabet, so that most impostor pairs in the batch are of one script: hard negatives.
    ``part.groups`` spreads them over more alphabets. With ``rotations`` each alphabet of a batch is rotated as a whole
    by a random number of quarter turns. Rotating single characters would be wrong: in a syllabic script a rotated
    character can be another character, and the batch would contain it as two classes.

    Raises:
        DatasetError: there are fewer than P classes, or a class has fewer than K images.
    """

    def __init__(self, data: PreparedImages, part: SamplerPart, *, rotations: bool = False, seed: int = 0) -> None:
        self._data = data
        self._part = part
        self._seed = seed
        self._turns = QUARTER_TURNS if rotations else 1
        order = torch.argsort(data.classes, stable=True)
        counts = torch.bincount(data.classes, minlength=data.n_classes)
        self._members = torch.split(order, counts.tolist())
        n_groups = int(data.groups.max()) + 1
        self._groups = [torch.nonzero(data.groups == group).flatten() for group in range(n_groups)]
        self._most = part.classes if part.groups is None else -(-part.classes // part.groups)
        there = sum(min(len(group), self._most) for group in self._groups)
        self._size = min(part.classes, there)
        if part.adapt:
            return
        if there < part.classes:
            raise DatasetError(f"a batch of {part.classes} classes needs as many; there are {there} to draw at once")
        if int(counts.min()) < part.images:
            raise DatasetError(
                f"class {int(counts.argmin())} has {int(counts.min())} images; a batch takes {part.images}"
            )

    @property
    def n_images(self) -> int:
        """Number of images in a batch."""
        return self._size * self._part.images

    @property
    def n_classes(self) -> int:
        """Number of classes, rotated ones included."""
        return self._data.n_classes * self._turns

    def draw(self, generator: torch.Generator, step: int = 0) -> Batch:
        """Return the batch of ``step``; all randomness comes from ``generator``.

        With ``part.batches`` it comes from the sampler's seed instead, and the same batches repeat in the same order.
        """
        if self._part.batches is not None:
            generator = torch.Generator().manual_seed(1_000_003 * self._seed + step % self._part.batches)
        images, classes = [], []
        room = self._size
        for group in torch.randperm(len(self._groups), generator=generator).tolist():
            chosen = self._draw_classes(self._groups[group], min(room, self._most), generator)
            turn = int(torch.randint(self._turns, (1,), generator=generator))
            pixels = torch.stack([self._draw_images(label, generator) for label in chosen.tolist()])
            images.append(torch.rot90(pixels, turn, (3, 4)))
            classes.append(chosen + turn * self._data.n_classes)
            room -= len(chosen)
            if not room:
                break
        return Batch(torch.cat(images).float() / 255, torch.cat(classes))

    def _draw_classes(self, classes: Tensor, room: int, generator: torch.Generator) -> Tensor:
        return classes[torch.randperm(len(classes), generator=generator)[:room]]

    def _draw_images(self, label: int, generator: torch.Generator) -> Tensor:
        members = self._members[label]
        if len(members) < self._part.images:
            members = members.repeat(-(-self._part.images // len(members)))
        chosen = members[torch.randperm(len(members), generator=generator)[: self._part.images]]
        return self._data.pixels[chosen]
