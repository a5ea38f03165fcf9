"""A file in memory that ends the work of a decoder that takes too long."""

from __future__ import annotations

import io
import time
from typing import Final

#: What the largest image that is accepted takes is a small part of it.
MAX_SECONDS: Final = 10.0
#: Headers are read in pieces, some byte by byte, with the interpreter locked.
_MAX_HEADER_READS: Final = 200_000


class MeteredFile(io.BytesIO):
    """An image's bytes for Pillow, which reads a file piece by piece: the time between the first and last is limited.

    It is the time that this thread has computed, so that a busy machine changes no answer. Until `opened` is set, it is
    the header that is read.
    """

    def __init__(self, data: bytes, seconds: float = MAX_SECONDS) -> None:
        super().__init__(data)
        self._seconds = seconds
        self.end = time.thread_time() + seconds
        self._reads = 0
        self.opened = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on. Raises OSError when the time is over."""
        self._reads += 1
        if self._reads > _MAX_HEADER_READS and not self.opened:
            raise OSError("it is too long")
        if time.thread_time() > self.end:
            raise OSError(f"it takes more than {self._seconds:g} seconds")
        return super().read(size)
