"""Limits how many wrong keys an address may send, against guessing and misconfigured clients."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from app.errors import RateLimitedError
from app.rates import parse_rate

#: 20 at once, then one every three seconds.
RATE: Final = parse_rate("20/minute")
#: Most addresses remembered. Beyond that, the one that failed longest ago is dropped.
_MOST = 4096


class Attempts:
    """Counts failures by address, in a table of bounded size. `clock` gives nanoseconds."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._used_until: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._used_until)

    def failed(self, address: str) -> None:
        """Count a failure. Raises RateLimitedError after too many."""
        self._used_until[address], wait = RATE.use(self._used_until.pop(address, 0), self._clock())
        if len(self._used_until) > _MOST:
            self._used_until.popitem(last=False)
        if wait:
            raise RateLimitedError("Too many wrong keys came from this address.", wait)
