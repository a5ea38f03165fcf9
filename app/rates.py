"""Rates such as 100/minute: their syntax, and rate limiting."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
#: Syntax of a rate: a positive number and a period. As a pattern, and in words.
PATTERN = rf"[1-9][0-9]{{0,8}}/({'|'.join(_SECONDS)})"
IN_WORDS = "<number>/second, /minute, /hour or /day"


class Rate(NamedTuple):
    """A limit of N events per period, by the generic cell rate algorithm (GCRA).

    It allows N events at once, then one per N-th of the period. The only state is the time until which past events use
    the rate up. Times are nanoseconds.
    """

    period: int
    gap: int

    def use(self, used_until: int, now: int) -> tuple[int, int]:
        """Return the time until which the rate is used up after an event at `now`, and 0.

        If no event is allowed at `now`, return `used_until` unchanged and the seconds to wait, rounded up.
        """
        after = max(used_until, now) + self.gap
        excess = after - now - self.period
        return (after, 0) if excess <= 0 else (used_until, -(-excess // 10**9))


@lru_cache(maxsize=1024)
def parse_rate(text: str) -> Rate:
    """Parse a rate in the syntax of `PATTERN`."""
    count, _, unit = text.partition("/")
    period = _SECONDS[unit] * 10**9
    return Rate(period, period // int(count))
