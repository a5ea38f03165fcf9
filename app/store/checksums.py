"""Checksums of stored images and vectors. A database may detect damage to its pages, but not to their content."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from app.errors import StoreCorruptError


def checksum(blob: bytes) -> int:
    """Return the CRC-32 that is stored with the bytes."""
    return zlib.crc32(blob)


def is_whole(blob: bytes, expected: int | None) -> bool:
    """Whether the bytes match their checksum. Rows of earlier versions have none and pass."""
    return expected is None or zlib.crc32(blob) == expected


def checked(blob: bytes, expected: int | None) -> bytes:
    """Return the bytes of an image. Raises StoreCorruptError when they don't match their checksum."""
    if not is_whole(blob, expected):
        raise StoreCorruptError("A stored image is damaged: its checksum differs.")
    return blob


def check_vectors(rows: Iterable[tuple[bytes, int | None]]) -> None:
    """Raise StoreCorruptError unless all vectors match their checksums."""
    damaged = sum(not is_whole(blob, expected) for blob, expected in rows)
    if damaged:
        raise StoreCorruptError(f"Stored vectors are damaged: {damaged} of them have another checksum.")
