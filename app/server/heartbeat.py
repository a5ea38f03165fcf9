"""Heartbeats of workers for their supervisor. A stopped process, or one whose event loop hangs, does not exit."""

from __future__ import annotations

import asyncio
import time
from multiprocessing.context import BaseContext
from typing import Any

#: Interval between beats. A worker that misses a few may just be busy.
BEAT_SECONDS = 1.0


class Heart:
    """The time of a worker's last beat, in shared memory. The worker's event loop beats; the supervisor reads."""

    def __init__(self, context: BaseContext) -> None:
        self._last: Any = context.RawValue("d", 0.0)  # of a clock that all processes share

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on, as long as the loop runs."""
        self._last.value = time.monotonic()
        loop.call_later(BEAT_SECONDS, self.beat, loop)

    @property
    def last(self) -> float | None:
        """Time of the last beat, by `time.monotonic`; None before the first."""
        last: float = self._last.value
        return last or None


class Watch:
    """Measures how long workers have been silent. Time in which the supervisor did not run does not count.

    So workers that were stopped together with their supervisor are not killed.
    """

    def __init__(self, longest_gap: float) -> None:
        """`longest_gap`: if the last look is longer ago than this, in seconds, the supervisor did not run."""
        self._longest_gap = longest_gap
        self._looked = self._since = time.monotonic()

    def look(self) -> None:
        """Note that the supervisor runs."""
        now = time.monotonic()
        if now - self._looked > self._longest_gap:
            self._since = now
        self._looked = now

    def silent(self, last: float) -> float:
        """Seconds of silence since the beat at `last`, as of the last look."""
        return self._looked - max(last, self._since)
