"""Starts the service while the store's database is unavailable: the process is live but not ready, and keeps trying.

So the machines of a cluster may start in any order. Any other obstacle ends the start at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.errors import StartupError, StoreUnavailableError
from app.lifecycle import Lifecycle
from app.telemetry.logs import get_logger

log = get_logger(__name__)

#: How long to wait for a database in all, and the pauses between attempts: the first, doubled up to the longest.
PATIENCE_S = 300.0
_FIRST_S, _LONGEST_S = 0.25, 5.0


class Startup:
    """The start of one process. `open_parts` opens the parts and registers their cleanup with the stack it is given.

    If the start fails after it had begun to wait, `tell` is called with the reason, and the process ends.
    """

    def __init__(
        self,
        open_parts: Callable[[AsyncExitStack], Awaitable[None]],
        tell: Callable[[StartupError], None],
        lifecycle: Lifecycle,
    ) -> None:
        self._open, self._tell, self._lifecycle = open_parts, tell, lifecycle
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def run(self, *, wait: bool) -> AsyncIterator[None]:
        """Open the parts, and close them at the end. With `wait`, enter the block while the database is unavailable.

        Raises StartupError.
        """
        async with AsyncExitStack() as parts:
            try:
                await self._open(parts)
            except StartupError as error:
                if not (wait and is_away(error)):
                    raise
                parts.push_async_callback(self._stop, asyncio.create_task(self._wait(parts, error)))
            yield

    async def _stop(self, waiting: asyncio.Task[None]) -> None:
        # an attempt is not cancelled: what it has opened would stay open
        self._stopping.set()
        await waiting

    async def _wait(self, parts: AsyncExitStack, error: StartupError) -> None:
        try:
            for pause in pauses():
                log.warning("store_awaited", reason=error.detail, seconds=round(pause, 2))
                if await self._stops_within(pause):
                    return
                try:
                    await self._open(parts)
                    return
                except StartupError as again:
                    error = again
                    if not is_away(error):
                        break
            self._tell(error)
            self._lifecycle.fail(error.detail)
        except Exception:
            log.exception("start_failed")
            self._lifecycle.fail("The start failed.")

    async def _stops_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


def is_away(error: StartupError) -> bool:
    """Whether the start failed because the store was unavailable."""
    return isinstance(error.__cause__, StoreUnavailableError)


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt, PATIENCE_S in all."""
    end, pause = time.monotonic() + PATIENCE_S, _FIRST_S
    while time.monotonic() < end:
        yield pause
        pause = min(2 * pause, _LONGEST_S)
