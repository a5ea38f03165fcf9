"""The first-use page is generated from recorded results, and live answers are timed in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.first_use import DOCS, kind, render
from benchmarks.live import measure, summary
from testing.browser import find_chromium
from testing.processes import Server


def test_the_page_is_made_of_the_recorded_results():
    recorded = json.loads((DOCS / "first-use.json").read_text("utf-8"))
    assert (DOCS / "first-use.md").read_text("utf-8") == render(recorded)
    assert {name: kind(result) for name, result in recorded.items()} == {"newcomer": "newcomer", "live": "live"}
    with pytest.raises(ValueError, match="neither"):
        kind({"minutes": 1})


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")
def test_every_drawing_is_answered_while_it_is_drawn(tmp_path: Path):
    with Server(tmp_path / "data", None) as server:
        taken = measure(server.ready().url, 2)
        result = summary(taken, 2, server.url)
    assert result["answers"] == len(taken) > 4
    for times in (result["question_ms"], result["change_ms"]):
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["most"]
    assert all(question < change for question, change in taken)
    assert result["classes"] == 24
