"""The comparison of views: its changes are what they say, and it ends with the views that the service has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import views
from benchmarks.views import Change, changed, compare, page
from model.artifact import load_artifact
from model.views import VIEWS
from tests.training.synthetic import TINY_RECIPE, write_tree
from training.fit import fit
from training.recipe import load_recipe
from training.subject import open_subject


def mass(pixels):
    rows, columns = np.mgrid[:21, :21]
    weight = pixels.numpy()[0, 0].astype(float)
    return (weight * rows).sum() / weight.sum(), (weight * columns).sum() / weight.sum()


def test_changes_are_what_they_say():
    dot = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    dot[:, :, 10, 15] = 255
    assert torch.equal(changed(dot, Change()), dot)
    assert mass(changed(dot, Change(x=0.1, y=-0.1))) == pytest.approx((10 - 2.1, 15 + 2.1), abs=0.05)
    assert mass(changed(dot, Change(width=0.6))) == pytest.approx((10, 13), abs=0.1)
    assert mass(changed(dot, Change(turn=90)))[1] == pytest.approx(10, abs=0.1)


def test_a_comparison(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "data")
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    fit(load_recipe(str(tmp_path / "tiny.toml")), tree, tmp_path / "model")
    subject = open_subject(load_artifact(tmp_path / "model"), tree, "held-out")
    monkeypatch.setattr(views, "SETS", {"turned": views.TURNS})
    rows = compare(subject, n_trials=200)
    assert [count for _, count, *_ in rows] == [1, 3, 3, *VIEWS[1:]]
    for _, _, value, low, high in rows:
        assert 0 <= low <= value <= high <= 100
    assert f"| turned | 3 | {rows[1][2]:.2f} |" in page(subject, rows)
