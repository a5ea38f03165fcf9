"""Vectors as bytes: consecutive little-endian float32 values."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from app.errors import StoreCorruptError
from app.store.checksums import check_vectors
from model.distances import Vectors


def to_bytes(vector: Vectors) -> bytes:
    """Return the bytes of a vector of shape (D,)."""
    return np.asarray(vector, dtype="<f4").tobytes()


def from_bytes(rows: Iterable[tuple[bytes, int | None]], dim: int) -> Vectors:
    """Return the vectors, shape (n, dim), from their bytes and checksums. Raises StoreCorruptError for damaged ones."""
    found = list(rows)
    joined = b"".join(blob for blob, _ in found)
    if len(joined) % (4 * dim):
        raise StoreCorruptError(f"Stored vectors of {dim} dimensions have {len(joined)} bytes together.")
    check_vectors(found)
    return np.frombuffer(joined, dtype="<f4").astype(np.float32, copy=False).reshape(-1, dim)
