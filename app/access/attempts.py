"""How many wrong keys an address may send, so that a client that guesses, or is set up wrong, does not go on."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from app.errors import RateLimitedError
from app.rates import parse_rate

#: So many at once, then one in three seconds.
RATE: Final = parse_rate("20/minute")
#: Addresses that are remembered; of more, those seen longest ago are forgotten.
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
        """Count one. Raises RateLimitedError when there were too many."""
        self._used_until[address], wait = RATE.use(self._used_until.pop(address, 0), self._clock())
        if len(self._used_until) > _MOST:
            self._used_until.popitem(last=False)
        if wait:
            raise RateLimitedError("Too many wrong keys came from this address.", wait)
