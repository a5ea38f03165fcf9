"""Batches of drawings for the simulated camera."""

from __future__ import annotations

import torch

from training.data.labelled import DatasetError, Drawings
from training.samplers import Batch

_CROWDING = 3.0
"""Spread of a group's probability between batches; half of it is the standard deviation of the log-weight."""


class DrawingSampler:
    """Draws P different classes and two drawings of each, with batched operations only.

    Each batch prefers some random groups, so that many of its impostors are of one family or script: hard negatives.

    Args:
        same: probability that both drawings of a class are the same one, photographed twice.

    Raises:
        DatasetError: there are fewer than P classes.
    """

    n_images = 2

    def __init__(self, data: Drawings, n_classes: int, same: float) -> None:
        if data.n_classes < n_classes:
            raise DatasetError(f"a batch of {n_classes} classes needs as many; there are {data.n_classes}")
        self._data = data
        self.size = n_classes
        self._same = same
        self._order = torch.argsort(data.classes, stable=True)
        self._counts = torch.bincount(data.classes, minlength=data.n_classes)
        self._firsts = self._counts.cumsum(0) - self._counts
        self._weights = data.weights.clamp(min=1e-9).log()
        self._n_groups = int(data.groups.max()) + 1

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._data.n_classes

    def draw(self, generator: torch.Generator) -> Batch:
        """Return a batch with byte ``images`` of shape (P, 2, 4, 64, 64)."""
        data = self._data
        crowds = torch.randn(self._n_groups, generator=generator)[data.groups] * (_CROWDING / 2)
        # The top k of log-weights plus Gumbel noise are a weighted sample without replacement (Vieira 2014).
        noise = -torch.log(torch.empty(data.n_classes).exponential_(generator=generator))
        classes = (self._weights + crowds + noise).topk(self.size).indices
        counts = self._counts[classes]
        chance = torch.rand(3, self.size, generator=generator)
        first = (chance[0] * counts).long()
        step = 1 + (chance[1] * (counts - 1)).long()
        second = torch.where((chance[2] < self._same) | (counts == 1), first, (first + step) % counts)
        members = self._order[self._firsts[classes][:, None] + torch.stack([first, second], 1)]
        return Batch(data.pixels[members], classes)
