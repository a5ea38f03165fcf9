"""A thread pool with a bounded queue, for work that must not block the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from app.errors import OverloadedError, WriteInDoubtError
from app.telemetry.logs import get_logger
from app.telemetry.tracing import span

T = TypeVar("T")
R = TypeVar("R")
log = get_logger(__name__)

#: How long a cancelled request waits for the end of a write that has begun.
LAST_SECONDS = 5.0


class WorkPool:
    """Runs blocking functions in `threads` threads; at most `max_pending` of them wait or run at once.

    Beyond that, a call raises OverloadedError at once: an unbounded queue would only turn overload into timeouts.
    """

    def __init__(self, name: str, threads: int, max_pending: int) -> None:
        self._name = name
        self._max_pending = max_pending
        self._pending = 0
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    @property
    def pending(self) -> int:
        """How many functions wait or run now."""
        return self._pending

    async def run(self, function: Callable[[], R]) -> R:
        """Run `function` in a thread and return its result. Raises what it raises, or OverloadedError."""
        [result] = await self.map(lambda call: call(), [function])
        return result

    async def write(self, function: Callable[[], R]) -> R:
        """`run` for a write: a cancelled caller still learns its outcome.

        A write that has not begun is cancelled. One that has begun can't be; the caller waits for its end and gets its
        result as usual. Raises WriteInDoubtError when it does not end within LAST_SECONDS.
        """
        self._reserve(1)
        future = self._submit(lambda call: call(), function)
        ending = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            if future.cancel():
                raise
        with suppress(asyncio.CancelledError):  # cancelled again: the process ends, its time limit is over
            await asyncio.wait([ending], timeout=LAST_SECONDS)
        if ending.done():
            return ending.result()
        ending.add_done_callback(_tell_late_end)
        raise WriteInDoubtError(
            "The answer could wait no longer while the change was being written, so it may be made or not; look before "
            "asking again."
        )

    async def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to each item, in order. Either all items are queued or none.

        Raises the exception of the first failed item (in the order of `items`), and drops items not yet begun.
        """
        work = list(items)
        self._reserve(len(work))
        futures = [self._submit(function, item) for item in work]
        try:
            return [await asyncio.wrap_future(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _reserve(self, count: int) -> None:
        with self._lock:
            if self._pending + count > self._max_pending:
                raise OverloadedError(f"Too much work is waiting ({self._name}); try again in a moment.")
            self._pending += count

    def _submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        # the context carries the request id, for the thread's log entries, and the trace
        future = self._executor.submit(contextvars.copy_context().run, self._traced, function, item)
        future.add_done_callback(self._release)
        return future

    def _traced(self, function: Callable[[T], R], item: T) -> R:
        with span(self._name):
            return function(item)

    def _release(self, _future: Future[R]) -> None:
        with self._lock:
            self._pending -= 1

    def close(self) -> None:
        """Finish what runs, drop what waits, end the threads. Blocks."""
        self._executor.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Pools:
    """The threads of a service. Writes and keys have threads of their own, which never wait for reads."""

    decoding: WorkPool  # decoding of images
    storing: WorkPool  # reads of the store
    writing: WorkPool  # writes to the store
    keys: WorkPool  # reads of keys
    searching: WorkPool  # searches of the index
    computing: WorkPool  # one thread, for work that takes seconds

    def close(self) -> None:
        """End all threads."""
        for pool in (self.computing, self.decoding, self.searching, self.keys, self.writing, self.storing):
            pool.close()


def _tell_late_end(ending: asyncio.Future[R]) -> None:
    error = None if ending.cancelled() else ending.exception()
    log.warning("write_ended_late", done=error is None and not ending.cancelled(), reason=error and str(error))
