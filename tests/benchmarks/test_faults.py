"""Servers and databases killed at random moments lose no acknowledged write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.faults import torture
from benchmarks.faults_cluster import torture_cluster
from testing.factories import draw_character, make_artifact, png_bytes
from testing.postgres import missing

pytestmark = pytest.mark.slow
#: How long to keep killing the server; `python -m benchmarks.faults --kills 300` runs longer.
SECONDS = float(os.environ.get("FAULT_SECONDS", "45"))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifact") / "model")


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [png_bytes(draw_character(seed)) for seed in range(8)]


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_however_often_it_is_killed(tmp_path: Path, artifact, images: list[bytes]):
    report = torture(tmp_path / "home", artifact, images, kills=None, seconds=SECONDS, seed=3)
    assert report.lost == [], report.render()
    assert report.kills >= 2
    assert report.acknowledged > 20


@pytest.mark.timeout(900)
@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_nothing_acknowledged_is_lost_when_servers_and_the_database_are_killed(tmp_path: Path, artifact, images):
    report = torture_cluster(tmp_path / "home", artifact, images, kills=None, seconds=SECONDS, seed=4)
    assert report.lost == [], report.render()
    assert report.kills >= 4
    assert report.acknowledged > 20
    assert report.classified > 0
