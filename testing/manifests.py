"""Manifests of untrained models."""

import hashlib
from datetime import UTC, datetime

from model.manifest import (
    METRICS,
    ConvSpec,
    Manifest,
    Metric,
    PreprocessSpec,
    SimilaritySpec,
    WeightsInfo,
)
from testing.factories import make_calibration


def make_manifest(metric: Metric = "l2", dim: int = 2, weights: str = "some") -> Manifest:
    """A manifest with index-form vectors of length `dim` compared by `metric`; `weights` determines the digest."""
    [kind] = [kind for kind, of_kind in METRICS.items() if of_kind == metric]
    return Manifest(
        name="test",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        network=ConvSpec(),
        preprocess=PreprocessSpec(size=28),
        similarity=SimilaritySpec(kind=kind, dim=dim),
        calibration=make_calibration(),
        weights=WeightsInfo(sha256=hashlib.sha256(weights.encode()).hexdigest(), bytes=1, parameters=1),
    )
