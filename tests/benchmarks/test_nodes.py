"""The comparison of deployments: its page, and a small real round."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks import nodes_page
from benchmarks.nodes import Asked, doors, staleness, torture
from benchmarks.nodes_groups import CONFIGURATIONS
from testing.factories import draw_character, png_bytes

MEASURED: dict[str, Any] = {
    "looks": [{"rate": rate, "p50": 10.0, "p99": 30.0, "failures": 0} for rate in (100.0, 300.0, 200.0)],
    "stale": [0.0] * 98 + [5.0, 7.0],
    "asked": 100,
    "unseen": 0,
    "kills": 10,
    "acknowledged": 1234,
    "cut_off": 3,
    "compared": 400,
    "lost": 0,
    "answered": 900,
    "unanswered": 2,
    "gap_s": 1.26,
    "load": 0.5,
    "connections": 24,
    "seconds": 5.0,
    "run": {"date": "2026-01-01", "machine": "M", "versions": "V"},
}


def test_the_page_has_a_row_for_each_configuration_and_keeps_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nodes_page, "_RECORD", tmp_path / "nodes.json")
    monkeypatch.setattr(nodes_page, "_PAGE", tmp_path / "nodes.md")
    nodes_page.write_page({"first": MEASURED}, {"Ray": "it is not installed"})
    page = nodes_page.write_page({"second": {**MEASURED, "lost": 2}}, {"first": "ran before"})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    assert [row[0] for row in rows[1:]] == ["first", "second"]
    assert rows[1][1:] == [
        *("200 (100 to 300)", "10.0 ms", "30.0 ms", "0.0 ms", "5.0 ms", "7.0 ms"),
        *("0 of 100", "10", "1.3 s", "0 of 1,234", "0.5"),
    ]
    assert rows[2][10] == "2 of 1,234"
    assert "in each of 3 interleaved rounds" in page
    assert "first did not run" not in page


def test_a_gap_lasts_from_one_answer_to_the_next(monkeypatch: pytest.MonkeyPatch):
    now, stop, asked = 0.0, threading.Event(), Asked()

    def answers(_url: str, _image: bytes) -> bool:
        nonlocal now
        now += 1.0
        if now >= 8.0:
            stop.set()
        return now not in {4.0, 5.0}

    monkeypatch.setattr("benchmarks.nodes._answers", answers)
    monkeypatch.setattr("benchmarks.nodes.time.monotonic", lambda: now)
    monkeypatch.setattr("benchmarks.nodes.time.sleep", lambda _seconds: None)
    asked.begin()
    asked.ask(["one"], b"", stop)
    assert (asked.answered, asked.unanswered, asked.gap_s) == (6, 2, 3.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["1 process", "4 workers", "3 nodes on PostgreSQL"])
def test_each_arrangement_is_killed_in_part_and_loses_nothing(name: str, tmp_path: Path):
    configuration = next(each for each in CONFIGURATIONS if each.name == name)
    if why := configuration.missing():
        pytest.skip(why)
    images = [png_bytes(draw_character(seed)) for seed in range(8)]
    with configuration.run(tmp_path / "home") as group:
        with doors(group.urls) as clients:
            found = staleness(clients, images, 10)
        report, asked = torture(group, images, kills=1, seed=random.Random().randrange(1000))
    assert found["unseen"] == 0
    assert len(found["stale"]) == found["asked"] == 5
    assert report.lost == []
    assert report.acknowledged > 0
    assert asked.answered > 0
