"""Random numbers for a batch of pictures."""

from __future__ import annotations

from torch import Tensor

ROWS = 192
WAVES = 6
"""Points on a side of the grid of normal numbers."""


class Chance:
    """Random numbers for n pictures, of a strength each; all results have shape (n,).

    They come from one table, of which each question takes the next row: on a GPU a hundred questions of a kernel or
    more each would take longer than the pictures. ``strength`` (n,) is drawn first, by ``set_strength``.

    Args:
        table: (ROWS, n) in [0, 1).
        normal: (n, 2, WAVES, WAVES), of the normal distribution.
    """

    def __init__(self, table: Tensor, normal: Tensor) -> None:
        self.n = table.shape[1]
        self.normal = normal
        self._table = table
        self._row = 0

    def set_strength(self, strength: Tensor) -> None:
        """Say how strong each picture's effects are from now on: (n,) in [0, 1]."""
        self.strength = strength
        self._to_strength = self._table * strength
        self._either_side = self._to_strength * 2 - strength
        self._odds = self._table / (2 * strength).clamp(max=1)  # infinite where there is no strength

    def unit(self) -> Tensor:
        """Return numbers in [0, 1), whatever the strength."""
        return self._next(self._table)

    def between(self, low: float, high: float) -> Tensor:
        """Return numbers in [low, high), whatever the strength."""
        return self._next(self._table) * (high - low) + low

    def up_to(self, most: float) -> Tensor:
        """Return numbers from 0 to ``most`` times the strength."""
        return self._next(self._to_strength) * most

    def either_side(self, reach: float) -> Tensor:
        """Return numbers in +-``reach`` times the strength."""
        return self._next(self._either_side) * reach

    def happens(self, chance: float) -> Tensor:
        """Return what happens, as booleans: with ``chance`` from strength 0.5 on, less below, never at 0."""
        return self._next(self._odds) < chance

    def vectors(self, length: int) -> Tensor:
        """Return vectors (n, length) of numbers in [0, 1)."""
        self._row += length
        return self._table[self._row - length : self._row].T

    def _next(self, table: Tensor) -> Tensor:
        self._row += 1
        return table[self._row - 1]
