"""Random numbers for a batch of pictures."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 192


class Chance:
    """Random numbers for n pictures: one table, drawn at once; each question takes its next row.

    A table costs one kernel where a hundred questions would cost a hundred. All results have shape (n,).
    """

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n = n
        self._rows = iter(torch.rand(_ROWS, n, generator=generator, device=generator.device).unbind())
        self.strength = torch.ones(n, device=generator.device)

    def unit(self) -> Tensor:
        """Return numbers in [0, 1)."""
        return next(self._rows)

    def between(self, low: float, high: float) -> Tensor:
        """Return numbers in [low, high), whatever the strength."""
        return self.unit() * (high - low) + low

    def up_to(self, most: float) -> Tensor:
        """Return numbers from 0 to ``most`` times the strength."""
        return self.unit() * self.strength * most

    def either_side(self, reach: float) -> Tensor:
        """Return numbers in +-``reach`` times the strength."""
        return (self.unit() * 2 - 1) * self.strength * reach

    def happens(self, chance: float) -> Tensor:
        """Return what happens, as booleans: with ``chance`` from strength 0.5 on, less below, never at 0."""
        return self.unit() < (2 * self.strength).clamp(max=1) * chance
