"""A short soak, and the page that is made of its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reliability import DOCS, render
from benchmarks.soak import soak
from tests.factories import make_artifact


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_soak_loses_and_leaks_nothing(tmp_path: Path):
    result = soak(0.5, tmp_path / "home", make_artifact(tmp_path / "artifact"))
    assert result["requests"] > 200
    assert (result["lost"], result["errors_5xx"], result["exit_code"]) == (0, 0, 0), result
    assert set(result["statuses"]) <= {"200", "201", "204", "404", "413", "415", "422", "503", "turned away"}, result
    assert result["descriptors_most"] < 100


def test_the_page_is_made_of_the_recorded_results():
    results = json.loads((DOCS / "reliability.json").read_text("utf-8"))
    assert (DOCS / "reliability.md").read_text("utf-8") == render(results)
