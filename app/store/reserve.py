"""Disk space reserved for deletions. On a full disk they would fail, although they free space.

A deletion writes before it frees anything: to the write-ahead log and, because deleted content is overwritten, as much
as it deletes. The reserve is an allocated file beside the store, truncated while a deletion runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from app.telemetry.logs import get_logger

log = get_logger(__name__)

#: Suffix of the reserve's file name, after that of the store.
RESERVE = "-reserve"
_BLOCK = 2**20


class Reserve:
    """The reserve in `file`. Only one of all threads and processes uses it at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0

    def keep(self, size: int) -> None:
        """Reserve this many bytes from now on, as soon as the disk has them."""
        self._size = size
        self.fill()
        if size and not self._is_there():
            log.warning("no_reserve", bytes=size, reason="the disk has no room for what deletions may need")

    def fill(self) -> None:
        """Allocate what is missing, if the disk has it and no one uses the reserve."""
        with suppress(OSError), ExitStack() as held:  # the folder is read-only, or the file is locked
            if self._is_there() or shutil.disk_usage(self._file.parent).free < self._size:
                return
            file = held.enter_context(self._file.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fill(file.fileno())

    def _is_there(self) -> bool:
        try:
            return self._file.stat().st_size >= self._size
        except FileNotFoundError:
            return self._size == 0

    def _fill(self, file: int) -> None:
        try:
            _allocate(file, self._size)
        except OSError:  # another process has taken the space: leave it the rest
            os.ftruncate(file, 0)

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Free the reserve for the duration of the block."""
        with ExitStack() as held:
            try:
                file = held.enter_context(self._file.open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX)
                os.ftruncate(file.fileno(), 0)
            except OSError as error:  # there was no reserve, and there is no room for an empty file
                log.warning("no_reserve", reason=str(error))
            else:
                log.warning("reserve_spent", bytes=self._size)
                held.callback(self._fill_again, file.fileno())
            yield

    def _fill_again(self, file: int) -> None:
        if self._size and shutil.disk_usage(self._file.parent).free >= self._size:
            self._fill(file)


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    for start in range(0, size, _BLOCK):  # macOS
        os.pwrite(file, bytes(min(_BLOCK, size - start)), start)
