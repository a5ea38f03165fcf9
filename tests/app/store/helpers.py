"""What tests of the store and of the gallery enrol."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from app.store import NewSupport
from model.manifest import ConvSpec, Manifest, PreprocessSpec, SimilarityKind, SimilaritySpec, WeightsInfo
from tests.factories import make_calibration

KIND_OF: dict[str, SimilarityKind] = {"l1": "weighted-l1", "l2": "euclidean", "cosine": "cosine"}

# Labels that careless code confuses, cuts, folds or runs.
ODD_LABELS = [
    "a",
    "A",
    "a ",
    " a",
    "ａ",  # fullwidth  # noqa: RUF001
    "é",
    "e\u0301",  # the same to the eye as the one before
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


def make_manifest(metric: str = "l2", dim: int = 2, weights: str = "one model") -> Manifest:
    """A manifest of a model that was never trained; other `weights` make another digest."""
    return Manifest(
        name="test",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        network=ConvSpec(),
        preprocess=PreprocessSpec(size=28),
        similarity=SimilaritySpec(kind=KIND_OF[metric], dim=dim),
        calibration=make_calibration(),
        weights=WeightsInfo(sha256=hashlib.sha256(weights.encode()).hexdigest(), bytes=1, parameters=1),
    )


def support(
    label: str,
    vector: Sequence[float] = (0.0, 0.0),
    image: bytes | None = b"image",
    digest: str = "digest",
    media_type: str = "image/png",
) -> NewSupport:
    return NewSupport(label, image, media_type, np.array(vector, dtype=np.float32), digest)
