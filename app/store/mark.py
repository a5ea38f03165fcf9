"""A file beside the store with its number of commits, to detect the loss of commits.

SQLite can't tell a store whose write-ahead log was deleted from one that never had those commits. The mark is written
after each commit and not flushed. After a power cut it may be too low, but never too high.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from app.errors import StartupError
from app.store.schema import meta

#: Suffix of the mark's file name, after that of the store.
MARK = "-mark"
_STORE_ID, _COMMITS = "store_id", "commits"
_NEXT = """
INSERT INTO meta (key, value) VALUES ('commits', '1')
ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value
"""


@dataclass(frozen=True)
class _Place:
    """A store, and its number of commits."""

    store_id: str
    commits: int


def count_commit(connection: sa.Connection) -> int:
    """Count the transaction that is about to commit. Return its number."""
    return int(connection.exec_driver_sql(_NEXT).scalar_one())


class Mark:
    """The mark of the store in the file `store`. Only one thread at a time may set it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._file = store.with_name(store.name + MARK)
        self._id = ""
        self._handle: int | None = None

    @property
    def exists(self) -> bool:
        """Whether the file exists."""
        return self._file.exists()

    def check(self, connection: sa.Connection) -> None:
        """Raise StartupError when the store lacks commits that the mark counts."""
        marked, found = self._read(), _place_of(connection)
        if marked is None or found is None or marked.store_id != found.store_id or found.commits >= marked.commits:
            return
        log = f"{self._store.name}-wal"
        raise StartupError(
            f"It lacks changes that were acknowledged (the last {marked.commits - found.commits}), as when its "
            f"write-ahead log {log} was deleted. Put that file back or restore a backup; to go on without these "
            f"changes, delete {self._file.name}."
        )

    def _read(self) -> _Place | None:
        try:
            store_id, commits = self._file.read_text("ascii").split()
            return _Place(store_id, int(commits))
        except (OSError, ValueError):  # missing, or partly written
            return None

    def open(self, connection: sa.Connection) -> None:
        """Start marking, at the store's present number of commits."""
        found = _place_of(connection)
        with suppress(OSError):  # the folder is read-only: writes to the store will report that
            if found is not None:
                self._id = found.store_id
                self._handle = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
                os.ftruncate(self._handle, self._write(found.commits))

    def set(self, commits: int) -> None:
        """Mark that this many commits were made."""
        with suppress(OSError):
            self._write(commits)

    def _write(self, commits: int) -> int:
        line = f"{self._id} {commits:020}\n".encode("ascii")
        return 0 if self._handle is None else os.pwrite(self._handle, line, 0)

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _place_of(connection: sa.Connection) -> _Place | None:
    if not sa.inspect(connection).has_table(meta.name):
        return None
    query = sa.select(meta.c.key, meta.c.value).where(meta.c.key.in_([_STORE_ID, _COMMITS]))
    facts: dict[str, str] = {row.key: row.value for row in connection.execute(query)}
    commits = facts.get(_COMMITS, "")
    return _Place(facts.get(_STORE_ID, ""), int(commits) if commits.isdecimal() else 0)
