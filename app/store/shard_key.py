"""Assigns classes to the parts of a sharded gallery, by a hash of their ids.

Python and SQL compute the same hash, so a database sends a part only its own classes. Ids are assigned in ascending
order, hence Fibonacci hashing: multiples of the golden ratio, of which consecutive or equally spaced ones are evenly
distributed (Knuth, The Art of Computer Programming, volume 3, section 6.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

_PRIME = 2**31 - 1
_FACTOR = 1_327_217_885  # _PRIME divided by the golden ratio; the product stays below 2**63


@dataclass(frozen=True)
class Part:
    """Part `number`, from 0, of `of` parts."""

    number: int = 0
    of: int = 1

    def holds(self, class_id: int) -> bool:
        """Whether the class belongs to this part."""
        return self.of == 1 or class_id % _PRIME * _FACTOR % _PRIME * self.of // _PRIME == self.number

    def has(self, class_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """`holds` for a column of ids, in SQL."""
        if self.of == 1:
            return sa.true()
        return (class_id % _PRIME * _FACTOR % _PRIME * self.of) // _PRIME == self.number


WHOLE = Part()
