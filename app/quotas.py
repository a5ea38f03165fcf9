"""How much a key has asked and is asking: in this process, or in all worker processes of one server.

The strategy (a sliding window) is the library's; what workers share is its storage, a small SQLite file in the folder
that the supervisor made for them. It needs to outlive no crash of the machine, so nothing waits for a disk.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
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
    """What keys may ask. For one event loop; `folder` is that of the workers where there are several."""

    def __init__(self, folder: Path | None = None) -> None:
        storage: Storage
        if folder is None:
            storage, self._running = MemoryStorage(), _RunningHere()  # the storage starts a thread
        else:
            shared = _SharedFile(folder / _FILE)
            storage, self._running = SharedStorage(shared), _RunningAnywhere(shared)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    _running: Running

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
        self._connection = sqlite3.connect(path, timeout=2.0, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.executescript(_TABLES)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Alone with the file. Raises StoreUnavailableError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"What keys ask can't be counted: {error}") from error


class _RunningAnywhere:
    """Each process has a row of its own, so that what a process that died was doing can be told and forgotten."""

    def __init__(self, file: _SharedFile) -> None:
        self._file = file

    def enter(self, key: str, limit: int) -> bool:
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
        with self._file.transaction() as connection:
            own = (key, os.getpid())
            connection.execute("UPDATE running SET count = count - 1 WHERE key = ? AND pid = ?", own)
            connection.execute("DELETE FROM running WHERE key = ? AND pid = ? AND count <= 0", own)


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
