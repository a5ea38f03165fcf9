"""How much a key has asked and is asking: in this process, or in all worker processes of one server.

The strategy (a sliding window) is the library's; what workers share is its storage, a small SQLite file in the folder
that the supervisor made for them. It needs to outlive no crash of the machine, so nothing waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from math import floor
from pathlib import Path
from typing import Protocol

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from limits.storage.base import SlidingWindowCounterSupport, TimestampedSlidingWindow
from limits.strategies import SlidingWindowCounterRateLimiter

from app.errors import RateLimitedError, StoreUnavailableError

_FILE = "quotas.sqlite"  # not .db: these are the metrics
#: How long another process that has the file is waited for.
_PATIENCE_SECONDS = 2.0
_TABLES = """
CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count INTEGER NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS running (key TEXT, pid INTEGER, count INTEGER, PRIMARY KEY (key, pid)) WITHOUT ROWID;
"""


class Running(Protocol):
    """Counts the requests of each key that run now."""

    def enter(self, key: str, limit: int) -> bool:
        """Count one more, unless `limit` run already; whether it was counted."""

    def leave(self, key: str) -> None:
        """Count one less."""


class Quotas:
    """What keys may ask. For one thread; `folder` is that of the workers where there are several.

    All methods raise StoreUnavailableError when the folder's file can't be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        storage: Storage
        self._shared: _SharedFile | None = None
        if folder is None:
            storage, self._running = MemoryStorage(), _RunningHere()  # the storage starts a thread
        else:
            shared = self._shared = _SharedFile(folder / _FILE)
            storage, self._running = SharedStorage(shared), _RunningAnywhere(shared)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    _running: Running

    def wait_until(self, moment: float) -> None:
        """Wait for other processes until then (`time.monotonic`) at the longest, in what is asked next."""
        if self._shared is not None:
            self._shared.wait_until = moment

    def begin(self, key: str, rate: str, concurrency: int) -> None:
        """Count a request; `end` must follow. Raises RateLimitedError."""
        if not self._running.enter(key, concurrency):
            raise RateLimitedError(f"This key has {concurrency} requests running.")
        try:
            self._hit(key, rate)
        except BaseException:
            self._running.leave(key)
            raise

    def end(self, key: str) -> None:
        """Count the end of a request."""
        self._running.leave(key)

    def _hit(self, key: str, rate: str) -> None:
        item = _item(rate)
        if not self._limiter.hit(item, key):
            wait = self._limiter.get_window_stats(item, key).reset_time - time.time()
            raise RateLimitedError(f"This key may ask {rate.replace('/', ' times a ')}.", max(1, round(wait + 0.5)))


class Counting:
    """`Quotas` for an event loop, which waits for no other process: a file that is shared is used in a thread."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._quotas = Quotas() if folder is None else None
        self._thread = None if folder is None else ThreadPoolExecutor(1, thread_name_prefix="quotas")

    async def begin(self, key: str, rate: str, concurrency: int) -> None:
        """See `Quotas.begin`. Raises StoreUnavailableError when another process keeps the file for too long."""
        if self._thread is None:
            self._here().begin(key, rate, concurrency)
            return
        give_up = time.monotonic() + _PATIENCE_SECONDS  # all who wait, wait at once
        begun = self._thread.submit(self._begin, key, rate, concurrency, give_up)
        try:
            await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            self._thread.submit(self._undo, begun, key)
            raise

    def end(self, key: str) -> None:
        """See `Quotas.end`. Waits for nothing."""
        if self._thread is None:
            self._here().end(key)
        else:
            with suppress(RuntimeError):  # after the service's end: what its process was doing is forgotten with it
                self._thread.submit(self._end, key)

    def _here(self) -> Quotas:
        if self._quotas is None:  # in the thread, which alone may use the file
            self._quotas = Quotas(self._folder)
        return self._quotas

    def _begin(self, key: str, rate: str, concurrency: int, give_up: float) -> None:
        quotas = self._here()
        quotas.wait_until(give_up)
        quotas.begin(key, rate, concurrency)

    def _undo(self, begun: Future[None], key: str) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._end(key)

    def _end(self, key: str) -> None:
        quotas = self._here()
        quotas.wait_until(time.monotonic())
        quotas.end(key)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)


@lru_cache(maxsize=1024)
def _item(rate: str) -> RateLimitItem:
    return parse(rate)


class _RunningHere:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def enter(self, key: str, limit: int) -> bool:
        if self._counts[key] >= limit:
            return False
        self._counts[key] += 1
        return True

    def leave(self, key: str) -> None:
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]


class _SharedFile:
    """The file, and transactions on it."""

    def __init__(self, path: Path) -> None:
        self.wait_until = time.monotonic() + _PATIENCE_SECONDS
        with _told():
            self._connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.executescript(_TABLES)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Alone with the file. Raises StoreUnavailableError."""
        with _told():
            patience = max(0.0, self.wait_until - time.monotonic())
            self._connection.execute(f"PRAGMA busy_timeout = {1000 * patience:.0f}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"What keys ask can't be counted: {error}") from error


class _RunningAnywhere:
    """Each process has a row of its own, so that what a process that died was doing can be told and forgotten."""

    def __init__(self, file: _SharedFile) -> None:
        self._file = file
        self._owed: Counter[str] = Counter()  # ends that could not be written yet

    def enter(self, key: str, limit: int) -> bool:
        self._pay()
        with self._file.transaction() as connection:
            rows = connection.execute("SELECT pid, count FROM running WHERE key = ?", (key,)).fetchall()
            if sum(count for _, count in rows) >= limit:
                dead = [pid for pid, _ in rows if not _is_alive(pid)]
                connection.executemany("DELETE FROM running WHERE pid = ?", [(pid,) for pid in dead])
                if sum(count for pid, count in rows if pid not in dead) >= limit:
                    return False
            connection.execute(
                "INSERT INTO running VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1", (key, os.getpid())
            )
            return True

    def leave(self, key: str) -> None:
        self._owed[key] += 1
        with suppress(StoreUnavailableError):  # with the next one, then
            self._pay()

    def _pay(self) -> None:
        if not self._owed:
            return
        with self._file.transaction() as connection:
            for key, count in self._owed.items():
                own = (key, os.getpid())
                connection.execute("UPDATE running SET count = count - ? WHERE key = ? AND pid = ?", (count, *own))
                connection.execute("DELETE FROM running WHERE key = ? AND pid = ? AND count <= 0", own)
        self._owed.clear()


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


class SharedStorage(Storage, SlidingWindowCounterSupport, TimestampedSlidingWindow):
    """Counts with an expiry in a file, for the library's sliding window; exact, because a hit is one transaction."""

    STORAGE_SCHEME = None

    def __init__(self, file: _SharedFile) -> None:
        super().__init__()
        self._file = file

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the storage raises when it can't be used."""
        return StoreUnavailableError

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count a hit unless the weighted count of this and the last window is full."""
        now = time.time()
        with self._file.transaction() as connection:
            before, _, current, _ = self._window(connection, key, expiry, now)
            if floor(before * (1 - now / expiry % 1) + current) + amount > limit:
                return False
            self._add(connection, self.sliding_window_keys(key, expiry, now)[1], 2 * expiry, amount)
            return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """The last window's count and seconds to live, and this one's."""
        with self._file.transaction() as connection:
            return self._window(connection, key, expiry, time.time())

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget both windows."""
        for each in self.sliding_window_keys(key, expiry, time.time()):
            self.clear(each)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a count; what it is then."""
        with self._file.transaction() as connection:
            return self._add(connection, key, expiry, amount)

    def get(self, key: str) -> int:
        """A count."""
        with self._file.transaction() as connection:
            return self._count(connection, key, time.time())

    def get_expiry(self, key: str) -> float:
        """When a count ends."""
        with self._file.transaction() as connection:
            row = connection.execute("SELECT expires FROM counts WHERE key = ?", (key,)).fetchone()
            return float(row[0]) if row else time.time()

    def check(self) -> bool:
        """Whether the file can be written."""
        with suppress(StoreUnavailableError), self._file.transaction():
            return True
        return False

    def reset(self) -> int:
        """Forget everything; how much that was."""
        with self._file.transaction() as connection:
            return connection.execute("DELETE FROM counts").rowcount

    def clear(self, key: str) -> None:
        """Forget a count."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM counts WHERE key = ?", (key,))

    def _window(
        self, connection: sqlite3.Connection, key: str, expiry: int, now: float
    ) -> tuple[int, float, int, float]:
        last, this = (self._count(connection, each, now) for each in self.sliding_window_keys(key, expiry, now))
        left = (1 - now / expiry % 1) * expiry
        return last, left if last else 0.0, this, left + expiry

    def _count(self, connection: sqlite3.Connection, key: str, now: float) -> int:
        row = connection.execute("SELECT count FROM counts WHERE key = ? AND expires > ?", (key, now)).fetchone()
        return int(row[0]) if row else 0

    def _add(self, connection: sqlite3.Connection, key: str, expiry: int, amount: int) -> int:
        now = time.time()
        row = connection.execute(
            "UPDATE counts SET count = count + ? WHERE key = ? RETURNING count", (amount, key)
        ).fetchone()
        if row is None:  # a new window: the time to throw away old ones
            connection.execute("DELETE FROM counts WHERE expires <= ?", (now,))
            connection.execute("INSERT INTO counts VALUES (?, ?, ?)", (key, amount, now + expiry))
        return int(row[0]) if row else amount
