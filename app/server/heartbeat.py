"""Signs of life of a worker for its supervisor: a process that was stopped, or whose event loop hangs, does not end."""

from __future__ import annotations

import asyncio
import time
from multiprocessing.context import BaseContext
from typing import Any

#: Between two beats. What stands still for some of them may be busy.
BEAT_SECONDS = 1.0


class Heart:
    """Shared by a worker, in whose event loop it beats, and its supervisor, who looks when it last did."""

    def __init__(self, context: BaseContext) -> None:
        self._last: Any = context.RawValue("d", 0.0)  # of a clock that is one for all processes

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on, for as long as the loop turns."""
        self._last.value = time.monotonic()
        loop.call_later(BEAT_SECONDS, self.beat, loop)

    @property
    def last(self) -> float | None:
        """When it last beat, by `time.monotonic`; None before the first time."""
        last: float = self._last.value
        return last or None


class Watch:
    """How long hearts have stood still while somebody looked: time that the supervisor did not run does not count.

    So workers are not killed for having been stopped together with their supervisor.
    """

    def __init__(self, longest_gap: float) -> None:
        """`longest_gap`: who has not looked for so many seconds did not run."""
        self._longest_gap = longest_gap
        self._looked = self._since = time.monotonic()

    def look(self) -> None:
        """Note that the supervisor runs."""
        now = time.monotonic()
        if now - self._looked > self._longest_gap:
            self._since = now
        self._looked = now

    def silent(self, last: float) -> float:
        """For how many seconds there was no sign of life since that time."""
        return self._looked - max(last, self._since)
