"""An in-memory file that stops a decoder that takes too long."""

from __future__ import annotations

import io
import time
from typing import Final

#: The largest accepted image takes a small part of this.
MAX_SECONDS: Final = 10.0
#: Pillow reads headers in small pieces, some byte by byte, while it holds the GIL.
_MAX_HEADER_READS: Final = 200_000


class MeteredFile(io.BytesIO):
    """An image's bytes for Pillow, with a limit on the thread's CPU time between creation and the last read.

    CPU time, so that a busy machine does not change the result. Until `opened` is set, reads belong to the header, and
    their number is limited too.
    """

    def __init__(self, data: bytes, seconds: float = MAX_SECONDS) -> None:
        super().__init__(data)
        self._seconds = seconds
        self.end = time.thread_time() + seconds
        self._reads = 0
        self.opened = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next bytes. Raises OSError past the time limit, or after too many reads of the header."""
        self._reads += 1
        if self._reads > _MAX_HEADER_READS and not self.opened:
            raise OSError("it is too long")
        if time.thread_time() > self.end:
            raise OSError(f"it takes more than {self._seconds:g} seconds")
        return super().read(size)
