"""Rates such as 100/minute: how they are written, and when one is used up."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
#: How a rate is written: a number that is not 0, and a period. As a pattern, and in words.
PATTERN = rf"[1-9][0-9]{{0,8}}/({'|'.join(_SECONDS)})"
IN_WORDS = "<number>/second, /minute, /hour or /day"


class Rate(NamedTuple):
    """N events at once, then one after each N-th of a period: the generic cell rate algorithm (GCRA).

    All that must be kept of past events is the moment until which they use the rate up. Times are nanoseconds.
    """

    period: int
    gap: int

    def use(self, used_until: int, now: int) -> tuple[int, int]:
        """Return until when the rate is used up after an event `now`, and 0.

        Where there may be none now, return `used_until` itself, and how many seconds to wait, rounded up.
        """
        after = max(used_until, now) + self.gap
        excess = after - now - self.period
        return (after, 0) if excess <= 0 else (used_until, -(-excess // 10**9))


@lru_cache(maxsize=1024)
def parse_rate(text: str) -> Rate:
    """Return the rate that is written so: as `PATTERN` says."""
    count, _, unit = text.partition("/")
    period = _SECONDS[unit] * 10**9
    return Rate(period, period // int(count))
