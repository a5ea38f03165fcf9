"""Who holds a data folder, and what one process on it does for all. A lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConflictError

#: Where the segments of large galleries lie in the data folder; a restore removes it.
INDEX_FOLDER = "index"
_SERVING_LOCK = "serving.lock"


@contextmanager
def serving(home: Path, exclusive: bool = False) -> Iterator[None]:
    """Hold the data folder: shared by any number of servers, or, for a restore, alone. Raises ConflictError."""
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
    """Hold the lock of that file, and tell whether this process has it now."""
    with file.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
