"""Supports and labels for tests of the store. It imports no model, so that test processes start fast."""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from app.store import NewSupport, SqlStore

# Labels that careless code confuses, truncates, case-folds or executes.
ODD_LABELS = [
    "a",
    "A",
    "a ",
    " a",
    "ａ",  # fullwidth  # noqa: RUF001
    "é",
    "e\u0301",  # looks the same as the previous one
    "ß",
    "ss",
    "日本/語",
    "../../etc/passwd",
    "a/b",
    "a%2Fb",
    "%",
    "_",
    "*",
    "'; DROP TABLE classes; --",
    '"quoted"',
    "back\\slash",
    "new\nline",
    "nul\0inside",
    "nul",
    "\u202eright to left",
    "👩‍👩‍👧‍👦" * 36,
    "x" * 255,
    "0",
    "-1",
    "None",
]


def support(
    label: str,
    vector: Sequence[float] = (0.0, 0.0),
    image: bytes | None = b"image",
    digest: str = "digest",
    media_type: str = "image/png",
) -> NewSupport:
    return NewSupport(label, image, media_type, np.array(vector, dtype=np.float32), digest)


@cache
def _new_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        SqlStore(path).close()
        return path.read_bytes()


def put_new_store(path: Path) -> Path:
    """Write a prebuilt empty store to `path`; running the migrations each time would dominate the tests' run time."""
    path.write_bytes(_new_store())
    return path
