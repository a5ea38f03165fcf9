"""The gallery page is generated from recorded results; new results of one part keep the other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gallery_page
from benchmarks.characters import Characters, embedded, served_embedder
from testing.factories import make_artifact
from testing.torture import Report

RUN = {"date": "2026-01-01", "machine": "a machine", "versions": "some versions"}


def size(classes: int, p50: float) -> dict[str, Any]:
    row = {"classes": classes, "p50_ms": p50, "p99_ms": 9.0, "recall": 0.9975, "enrol_per_s": 1234.5}
    return row | {"megabytes": 12.0, "raw_megabytes": 10.0, "start_s": 2.5, "load": 0.5, "run": RUN}


def test_parts_are_recorded_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("_RECORD", "_PAGE"):
        monkeypatch.setattr(gallery_page, name, tmp_path / name)
    gallery_page.write_page(sizes={"10000": size(10_000, 3.0)}, model="m@1")
    ways = {"one by one": [10.0, 30.0, 20.0], "batches": [500.0, 400.0, 600.0]}
    bulk = {"images": 4000, "batch": 1000, "rounds": 3, "workers": 2, "ways": ways, "run": RUN, "load": 1.0}
    gallery_page.write_page(bulk=bulk)
    page = gallery_page.write_page(sizes={"1000": size(1_000, 2.0)})
    assert (tmp_path / "_PAGE").read_text() == page
    rows = [line for line in page.splitlines() if line.startswith(("| 1", "| b", "| o"))]
    assert rows == [
        "| 1,000 | 2.0 ms | 9.0 ms | 0.9975 | 1,234 | 12.0 MB | - | 2.5 s | 0.5 |",
        "| 10,000 | 3.0 ms | 9.0 ms | 0.9975 | 1,234 | 12.0 MB | 1.20 times | 2.5 s | 0.5 |",
        "| one by one | 20 (10 to 30) | 1.0 |",
        "| batches | 500 (400 to 600) | 25.0 |",
    ]


def test_the_page_is_what_the_record_says():
    found = json.loads(gallery_page._RECORD.read_text("utf-8"))
    assert gallery_page._PAGE.read_text("utf-8") == gallery_page.render(found)


def test_a_fault_run_is_a_proof():
    proof = Report(kills=3, acknowledged=20, unanswered=4, compared=36).proof()
    assert (proof.lost, proof.errors_5xx) == (0, 0)
    assert proof.faults == {"SIGKILL": 3, "operations cut off": 4}
    assert Report(lost=["a class"]).proof().lost == 1


@pytest.mark.skipif("ONESHOT_DATASETS" not in os.environ, reason="ONESHOT_DATASETS names no data")
def test_characters_are_the_same_each_time_and_their_vectors_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    embedder = served_embedder(make_artifact(tmp_path / "model"))
    characters = Characters(Path(os.environ["ONESHOT_DATASETS"]), embedder.manifest)
    block = characters.draw(1)
    assert np.array_equal(block, characters.draw(1))
    assert not np.array_equal(block, characters.draw(1, take=1))
    vectors = embedded(tmp_path / "kept", 600, characters, embedder)
    assert vectors.shape == (600, embedder.dim)
    assert np.allclose(vectors[500:], embedder.embed(block)[:100], atol=1e-5)
    with (tmp_path / "kept" / "vectors.f32").open("ab") as file:
        file.write(b"cut off in the middle")
    again = embedded(tmp_path / "kept", 1_200, characters, embedder)
    assert np.array_equal(again[:600], vectors)
    other = served_embedder(make_artifact(tmp_path / "other", seed=1))
    with pytest.raises(ValueError, match="another model"):
        embedded(tmp_path / "kept", 600, characters, other)
