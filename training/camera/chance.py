"""Random numbers for a batch of pictures."""

from __future__ import annotations

from torch import Tensor

ROWS = 192
WAVES = 6
"""Side of the grid of normal numbers."""


class Chance:
    """Random numbers for n pictures, each with its own strength; results have shape (n,) unless stated otherwise.

    The numbers come from one table, and each call takes the next row. On a GPU a hundred separate random kernels would
    take longer than the pictures themselves. Call ``set_strength`` before the methods that use ``strength`` (n,).

    Args:
        table: (ROWS, n), uniform in [0, 1).
        normal: (n, 2, WAVES, WAVES), normally distributed.
    """

    def __init__(self, table: Tensor, normal: Tensor) -> None:
        self.n = table.shape[1]
        self.normal = normal
        self._table = table
        self._row = 0

    def set_strength(self, strength: Tensor) -> None:
        """Set the strength of each picture's effects for the calls that follow: (n,) in [0, 1]."""
        self.strength = strength
        self._to_strength = self._table * strength
        self._either_side = self._to_strength * 2 - strength
        self._odds = self._table / (2 * strength).clamp(max=1)  # infinite (or NaN) where the strength is 0

    def unit(self) -> Tensor:
        """Return numbers in [0, 1), independent of the strength."""
        return self._next(self._table)

    def between(self, low: float, high: float) -> Tensor:
        """Return numbers in [low, high), independent of the strength."""
        return self._next(self._table) * (high - low) + low

    def up_to(self, most: float) -> Tensor:
        """Return numbers from 0 to ``most`` times the strength."""
        return self._next(self._to_strength) * most

    def either_side(self, reach: float) -> Tensor:
        """Return numbers in +-``reach`` times the strength."""
        return self._next(self._either_side) * reach

    def happens(self, chance: float) -> Tensor:
        """Return booleans, true with probability ``chance`` at strength 0.5 and above, less below, never at 0."""
        return self._next(self._odds) < chance

    def vectors(self, length: int) -> Tensor:
        """Return vectors (n, length) of numbers in [0, 1)."""
        self._row += length
        return self._table[self._row - length : self._row].T

    def _next(self, table: Tensor) -> Tensor:
        self._row += 1
        return table[self._row - 1]
