"""Which classes a process keeps of galleries that are too large for one: those whose id hashes to its part.

The same arithmetic in Python and in SQL, so that a database sends a part no more than it keeps. Ids are given out in
ascending order, so the hash is Fibonacci's: multiples of the golden ratio, of which any few in a row, and any few at
equal steps, lie evenly (Knuth, The Art of Computer Programming, volume 3, section 6.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

_PRIME = 2**31 - 1
_FACTOR = 1_327_217_885  # the golden ratio's share of it; the product stays below 2**63


@dataclass(frozen=True)
class Part:
    """Part `number`, from 0, of `of` parts."""

    number: int = 0
    of: int = 1

    def holds(self, class_id: int) -> bool:
        """Whether the class is of this part."""
        return self.of == 1 or class_id % _PRIME * _FACTOR % _PRIME * self.of // _PRIME == self.number

    def has(self, class_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """The same of a column of ids."""
        if self.of == 1:
            return sa.true()
        return (class_id % _PRIME * _FACTOR % _PRIME * self.of) // _PRIME == self.number


WHOLE = Part()
