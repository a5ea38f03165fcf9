"""Vectors as bytes: little-endian float32, one after another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from app.errors import StoreCorruptError
from app.store.base import Vectors


def to_bytes(vector: Vectors) -> bytes:
    """Return the bytes of a vector of shape (D,)."""
    return np.asarray(vector, dtype="<f4").tobytes()


def from_bytes(blobs: Iterable[bytes], dim: int) -> Vectors:
    """Return the vectors, shape (n, dim). Raises StoreCorruptError when their bytes don't add up."""
    joined = b"".join(blobs)
    if len(joined) % (4 * dim):
        raise StoreCorruptError(f"Stored vectors of {dim} dimensions have {len(joined)} bytes together.")
    return np.frombuffer(joined, dtype="<f4").astype(np.float32, copy=False).reshape(-1, dim)
