"""The training-step benchmark measures what it claims."""

from __future__ import annotations

import sys

import pytest

from benchmarks.training_step import main
from testing.synthetic import TINY_RECIPE, write_tree


def test_it_prints_the_share_of_the_data(tmp_path, monkeypatch, capsys):
    write_tree(tmp_path)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    monkeypatch.setattr(sys, "argv", ["training_step", str(recipe), "--data", str(tmp_path), "--steps", "3"])
    status = main()
    said = capsys.readouterr().out
    assert "a step of 24 images" in said
    share = float(said.partition("data (")[2].partition(" %")[0])
    assert 0 < share < 100
    assert status == int(share > 15) or share == pytest.approx(15, abs=0.1)
