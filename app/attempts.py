"""How many wrong keys an address may send, so that a client that guesses, or is set up wrong, does not go on."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from app.errors import RateLimitedError

#: So many at once, and one more after each of so many seconds.
AT_ONCE, SECONDS_EACH = 20, 3.0
#: Addresses that are remembered; of more, those seen longest ago are forgotten.
_MOST = 4096


class Attempts:
    """Counts failures by address, in a table of bounded size."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def failed(self, address: str) -> None:
        """Count one. Raises RateLimitedError when there were too many."""
        now = self._clock()
        until = max(self._paid_until.pop(address, now), now)
        excess = until + SECONDS_EACH - now - AT_ONCE * SECONDS_EACH
        self._paid_until[address] = until if excess > 0 else until + SECONDS_EACH
        if len(self._paid_until) > _MOST:
            self._paid_until.popitem(last=False)
        if excess > 0:
            raise RateLimitedError("Too many wrong keys came from this address.", max(1, math.ceil(excess)))
