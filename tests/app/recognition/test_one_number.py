"""Verify and classify return the same similarity for the same two images, for every kind of similarity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from model.manifest import SimilarityKind
from testing.served import make_settings, running


@pytest.mark.parametrize("kind", get_args(SimilarityKind))
def test_verify_and_classify_give_one_number(
    kind: SimilarityKind, artifact_of: Callable[[SimilarityKind], Path], tmp_path: Path, images: list[bytes]
):
    with running(make_settings(model=artifact_of(kind), home=tmp_path)) as server:
        assert server.client.get("/model").json()["similarity"] == kind
        for number, image in enumerate(images[:4]):
            server.enroll(f"c{number}", image)
        seen = set()
        for query in images:
            candidates = server.classify(query, k=4).json()["candidates"]
            assert len(candidates) == 4
            for candidate in candidates:
                support = images[int(candidate["label"][1:])]
                pair = server.client.post("/verify", files={"image1": ("a", query), "image2": ("b", support)}).json()
                labelled = server.client.post(
                    "/verify", data={"label": candidate["label"]}, files={"image1": ("a", query)}
                ).json()
                for verified in (pair, labelled):
                    assert verified["similarity"] == pytest.approx(candidate["similarity"], abs=1e-5)
                    assert verified["distance"] == pytest.approx(candidate["distance"], abs=1e-5)
                seen.add(round(candidate["similarity"], 6))
        assert len(seen) > 8, "the similarities must differ, or this test can't fail"
