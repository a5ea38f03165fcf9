"""A short soak, the slope of a process's memory, and the page generated from the recorded proofs."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from benchmarks.reliability import DOCS, render
from benchmarks.soak import soak
from testing.factories import make_artifact
from testing.growth import Sample, look, slope
from testing.proofs import Proof, record


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_soak_loses_and_leaks_nothing(tmp_path: Path):
    result = soak(0.5, tmp_path / "home", make_artifact(tmp_path / "artifact"), rate=20)
    assert result.requests > 200
    assert (result.lost, result.errors_5xx, result.exit_code) == (0, 0, 0), result
    assert set(result.statuses) <= {"200", "201", "204", "404", "413", "415", "422", "503", "turned away"}, result
    assert max(sample.descriptors for sample in result.samples) < 100
    assert len(result.faults) == 4


def samples(per_hour: float) -> list[Sample]:
    """An hour of samples of a process that grows by `per_hour` megabytes, in steps and with noise."""
    rng = random.Random(1)
    sizes = [100 + per_hour * (number // 10) / 24 + rng.gauss(0, 0.3) for number in range(240)]
    return [Sample(15.0 * number, size, size, 20, 10) for number, size in enumerate(sizes)]


def test_the_slope_tells_growth_from_none():
    still, growing = slope(samples(0)), slope(samples(10))
    assert still.low < 0 < still.high
    assert still.p > 0.05
    assert growing.low > 5
    assert growing.p < 1e-6
    assert growing.low < 10 < growing.high
    with pytest.raises(ValueError, match="too few"):
        slope(samples(0)[:20])


def test_a_sample_is_of_the_process():
    sample = look(os.getpid(), 0.0)
    assert 10 < sample.anonymous < sample.resident < 10_000
    assert sample.descriptors > 2
    assert sample.threads >= 1


def test_a_proof_is_recorded_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    proof = Proof("a | b", "true", {"images": 1000}, {}, 0, 0)
    monkeypatch.delenv("RELIABILITY_JSON", raising=False)
    record("x", proof)
    target = tmp_path / "found.json"
    monkeypatch.setenv("RELIABILITY_JSON", str(target))
    record("x", proof)
    record("a", proof)
    found = json.loads(target.read_text("utf-8"))
    assert list(found) == ["a", "x"]
    assert found["x"]["tried"] == {"images": 1000}
    page = render(found)
    assert page.count("| 1,000 images | - | 0 | - | 0 | - | a |") == 2
    assert found["x"]["run"]["machine"] in page


def test_the_page_is_made_of_the_recorded_results():
    found = json.loads((DOCS / "reliability.json").read_text("utf-8"))
    assert (DOCS / "reliability.md").read_text("utf-8") == render(found)
