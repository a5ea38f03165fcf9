"""Checksums of stored images and vectors: a database notices damage to its pages, but not to what is in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from app.errors import StoreCorruptError


def checksum(blob: bytes) -> int:
    """Return the CRC-32 that is stored beside the bytes."""
    return zlib.crc32(blob)


def is_whole(blob: bytes, expected: int | None) -> bool:
    """Whether the bytes are what was stored, as far as can be known: an earlier version stored no checksum."""
    return expected is None or zlib.crc32(blob) == expected


def checked(blob: bytes, expected: int | None) -> bytes:
    """Return the bytes of an image. Raises StoreCorruptError when they are not what was stored."""
    if not is_whole(blob, expected):
        raise StoreCorruptError("A stored image is damaged: its checksum differs.")
    return blob


def check_vectors(rows: Iterable[tuple[bytes, int | None]]) -> None:
    """Raise StoreCorruptError unless all vectors are what was stored."""
    damaged = sum(not is_whole(blob, expected) for blob, expected in rows)
    if damaged:
        raise StoreCorruptError(f"Stored vectors are damaged: {damaged} of them have another checksum.")
