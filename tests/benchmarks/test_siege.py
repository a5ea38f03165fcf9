"""A short siege: a small version of each attack, on its own server."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.attacks import Attack, attacks
from benchmarks.siege import besiege
from testing.factories import make_artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = dict(attacks(0.1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifact") / "model")


@pytest.mark.parametrize(("name", "attack"), SMALL.items(), ids=SMALL)
def test_an_attack_harms_no_neighbour(tmp_path: Path, model: Path, name: str, attack: Attack):
    result = besiege(name, attack, tmp_path / "home", model, send_timeout=2)
    assert result.faults() == []
    proof = result.proof()
    assert proof.lost == 0
    assert sum(proof.tried.values()) > 10
