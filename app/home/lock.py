"""Locks on a data folder. A lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConflictError

#: Folder in the data folder with the segments of large galleries. A restore removes it.
INDEX_FOLDER = "index"
_SERVING_LOCK = "serving.lock"


@contextmanager
def serving(home: Path, exclusive: bool = False) -> Iterator[None]:
    """Lock the data folder: shared by any number of servers, or exclusive for a restore. Raises ConflictError."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / _SERVING_LOCK).open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            other = "is being served; stop its servers first" if exclusive else "is being restored"
            raise ConflictError(f"The data folder {home} {other}.") from None
        yield


@contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Try to lock the file, and yield whether this process has the lock."""
    with file.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
