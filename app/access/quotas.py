"""Rate and concurrency quotas of keys, in this process or over all worker processes of a server.

Workers share a small SQLite file in a folder that the supervisor creates. It need not survive a crash of the machine,
so writes don't wait for the disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import RateLimitedError, StoreUnavailableError
from app.rates import parse_rate

_FILE = "quotas.sqlite"  # not .db, the suffix of the metrics files in this folder
#: How long to wait for another process that has locked the file.
_PATIENCE_SECONDS = 2.0
#: Each process has its own rows in `running`, so that they can be deleted when it dies.
_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS rates (key TEXT, rate TEXT, used_until INTEGER, PRIMARY KEY (key, rate)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS running (key TEXT, pid INTEGER, count INTEGER, PRIMARY KEY (key, pid)) WITHOUT ROWID;
"""
_FIND_RATE = "SELECT used_until FROM rates WHERE key = ? AND rate = ?"
_KEEP_RATE = "INSERT OR REPLACE INTO rates VALUES (?, ?, ?)"
_FIND_RUNNING = "SELECT pid, count FROM running WHERE key = ?"
_BEGIN = "INSERT INTO running VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1"
_END = "UPDATE running SET count = count - ? WHERE key = ? AND pid = ?"
_FORGET_ENDED = "DELETE FROM running WHERE count <= 0"


class Quotas:
    """Quotas of keys in this process. `clock` counts nanoseconds."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._used_until: dict[tuple[str, str], int] = {}
        self._running: Counter[str] = Counter()

    def begin(self, key: str, rate: str, concurrency: int) -> None:
        """Count the start of a request; `end` must follow. Raises RateLimitedError."""
        if self._running[key] >= concurrency:
            raise _too_many(concurrency)
        self._used_until[key, rate] = _use(rate, self._used_until.get((key, rate), 0), self._clock())
        self._running[key] += 1

    def end(self, key: str) -> None:
        """Count the end of a request."""
        self._running[key] -= 1


class SharedQuotas:
    """Quotas of keys over all processes that share this folder. For one thread at a time.

    `clock` counts nanoseconds, the same in all processes of the machine. No method waits for another process longer
    than `patience` seconds. The constructor and `begin` raise StoreUnavailableError when the file can't be used.
    """

    def __init__(self, folder: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._ended: Counter[str] = Counter()  # ends not written yet
        with _unavailable():
            self._connection = sqlite3.connect(
                folder / _FILE, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.executescript(_TABLES)

    def begin(self, key: str, rate: str, concurrency: int, patience: float = _PATIENCE_SECONDS) -> None:
        """See `Quotas.begin`."""
        with self._transaction(patience) as connection:
            if self._is_busy(key, concurrency):
                raise _too_many(concurrency)
            [used_until] = connection.execute(_FIND_RATE, (key, rate)).fetchone() or [0]
            connection.execute(_KEEP_RATE, (key, rate, _use(rate, used_until, self._clock())))
            connection.execute(_BEGIN, (key, os.getpid()))

    def end(self, key: str, patience: float = _PATIENCE_SECONDS) -> None:
        """See `Quotas.end`. An end that can't be written now is written with the next transaction."""
        self._ended[key] += 1
        with suppress(StoreUnavailableError), self._transaction(patience):
            pass

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self, patience: float) -> Iterator[sqlite3.Connection]:
        """An exclusive transaction, which writes all pending ends first."""
        connection = self._connection
        with _unavailable():
            connection.execute(f"PRAGMA busy_timeout = {1000 * max(0.0, patience):.0f}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                if self._ended:
                    connection.executemany(_END, [(count, key, os.getpid()) for key, count in self._ended.items()])
                    connection.execute(_FORGET_ENDED)
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        self._ended.clear()

    def _is_busy(self, key: str, concurrency: int) -> bool:
        """Whether the key has `concurrency` requests running. Requests of dead processes don't count."""
        rows: list[tuple[int, int]] = self._connection.execute(_FIND_RUNNING, (key,)).fetchall()
        if sum(count for _, count in rows) < concurrency:
            return False
        dead = [(pid,) for pid, _ in rows if not _is_alive(pid)]
        self._connection.executemany("DELETE FROM running WHERE pid = ?", dead)
        return sum(count for pid, count in rows if (pid,) not in dead) >= concurrency


class Counting:
    """Quotas for an event loop. A shared file is used in a thread, so the loop never waits for another process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._alone = Quotas() if folder is None else None
        self._folder = folder
        self._shared: SharedQuotas | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quotas")  # starts with the first call

    async def begin(self, key: str, rate: str, concurrency: int) -> None:
        """See `Quotas.begin`. Raises StoreUnavailableError when another process locks the file for too long."""
        if self._alone is not None:
            self._alone.begin(key, rate, concurrency)
            return
        give_up = time.monotonic() + _PATIENCE_SECONDS  # time in the thread's queue counts
        begun = self._thread.submit(self._begin, key, rate, concurrency, give_up)
        try:
            await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            self._thread.submit(self._undo, begun, key)
            raise

    def end(self, key: str) -> None:
        """See `Quotas.end`. Does not block."""
        if self._alone is not None:
            self._alone.end(key)
        else:
            with suppress(RuntimeError):  # the service has closed: the rows of its process no longer count
                self._thread.submit(self._end, key)

    def close(self) -> None:
        """End the thread, and close the file."""
        self._thread.shutdown(wait=True)
        if self._shared is not None:
            self._shared.close()

    def _quotas(self) -> SharedQuotas:
        if self._shared is None:
            assert self._folder is not None  # noqa: S101 - else this process is alone
            self._shared = SharedQuotas(self._folder)
        return self._shared

    def _begin(self, key: str, rate: str, concurrency: int, give_up: float) -> None:
        self._quotas().begin(key, rate, concurrency, give_up - time.monotonic())

    def _undo(self, begun: Future[None], key: str) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._end(key)

    def _end(self, key: str) -> None:
        self._quotas().end(key, patience=0)


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"What keys ask can't be counted: {error}") from error


def _too_many(concurrency: int) -> RateLimitedError:
    return RateLimitedError(f"This key has {concurrency} requests running.")


def _use(rate: str, used_until: int, now: int) -> int:
    """Return until when the rate is used up after one more request. Raises RateLimitedError."""
    used_until, wait = parse_rate(rate).use(used_until, now)
    if wait:
        raise RateLimitedError(f"This key may ask {rate.replace('/', ' times a ')}.", wait)
    return used_until


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
