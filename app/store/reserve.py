"""A piece of the disk that is kept free for deletions: a full disk would else refuse what makes room on it.

A deletion writes before it frees anything: into the write-ahead log, and, as deleted content is overwritten, as much as
it deletes. The piece is a file without content beside the store, which is cut off for as long as that takes.
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

#: What the file's name ends with, after that of the store.
RESERVE = "-reserve"
_BLOCK = 2**20


class Reserve:
    """The piece, in `file`. Of all threads and processes, one may use it at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0

    def keep(self, size: int) -> None:
        """Keep so many bytes from now on, as soon as the disk has them."""
        self._size = size
        self.fill()
        if size and not self._is_there():
            log.warning("no_reserve", bytes=size, reason="the disk has no room for what deletions may need")

    def fill(self) -> None:
        """Take what is lacking, if the disk has it and nobody uses the piece now."""
        with suppress(OSError), ExitStack() as held:  # a folder that can't be written
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
        except OSError:  # somebody was quicker: leave him what there is
            os.ftruncate(file, 0)

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Give it back to the disk for the time of the block."""
        with ExitStack() as held:
            try:
                file = held.enter_context(self._file.open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX)
                os.ftruncate(file.fileno(), 0)
            except OSError as error:  # there was none, and there is no room for an empty file
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
