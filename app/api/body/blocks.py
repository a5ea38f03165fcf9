"""A body of many megabytes in memory, readable as a file and freed piece by piece."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK = 65_536


class Blocks(io.RawIOBase):
    """Bytes in blocks: `append` while they arrive, then read. Bytes before a position can be freed at any time."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[bytearray] = []
        self._freed = 0  # blocks
        self._place = 0
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        start = 0
        while start < len(data):
            if self.size % _BLOCK == 0:
                self._blocks.append(bytearray())
            piece = data[start : start + _BLOCK - self.size % _BLOCK]
            self._blocks[-1] += piece
            self.size += len(piece)
            start += len(piece)

    def count(self, pattern: bytes) -> int:
        """Count the occurrences of the pattern, also across blocks."""
        found, tail = 0, b""
        for block in self._blocks:
            searched = tail + block
            found += searched.count(pattern)
            tail = bytes(searched[1 - len(pattern) :])  # too short to contain it again
        return found

    def free(self, before: int) -> int:
        """Free all whole blocks before a position; they then read as zeros. Return the number of bytes freed."""
        last = min(max(before, 0), self.size) // _BLOCK
        freed = sum(len(block) for block in self._blocks[self._freed : last])
        for place in range(self._freed, last):
            self._blocks[place] = bytearray()
        self._freed = max(self._freed, last)
        return freed

    # -- as a file -----------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position. Raises OSError, as files do, for a negative one."""
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        if place < 0:
            raise OSError(f"negative seek position {place}")
        self._place = place
        return place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read up to the end of the current block."""
        if self._place >= self.size:
            return 0
        number, start = divmod(self._place, _BLOCK)
        end = min(_BLOCK, self.size - number * _BLOCK)
        with memoryview(buffer).cast("B") as target:
            length = min(len(target), end - start)
            block = self._blocks[number] if number >= self._freed else bytes(end)
            target[:length] = block[start : start + length]
        self._place += length
        return length
