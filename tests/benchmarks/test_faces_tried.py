"""The variants tried for faces are measured on people outside the final test."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import faces_tried
from tests.training.test_faces import write_faces
from training.data.faces import split_people
from training.people import judge_method, pixels
from training.recipe import load_recipe

pytestmark = pytest.mark.timeout(300)

PEOPLE = 36


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "att_faces", PEOPLE).parent


def test_variants_are_measured_on_people_of_the_training_part(faces, monkeypatch):
    division = load_recipe("faces-gradients", ("data.inner=true",)).data.read(faces)
    tested = set(split_people(PEOPLE, 10, split=0)[1])
    names = {f"s{person + 1}" for person in tested}
    assert not names & {*division.training.class_names, *division.held_out.class_names}
    monkeypatch.setattr(faces_tried, "TRIED", {"the recipe": (), "other": ("whitening.total=1",)})
    rows = [faces_tried.measure(name, faces, 2) for name in ("raw pixels", "the recipe", "other")]
    assert [row["changes"] for row in rows] == [[], [], ["whitening.total=1"]]
    first = [judge_method(pixels(division.training, 0), division.held_out, seed=0)[0]]
    second = load_recipe("faces-gradients", ("data.inner=true", "data.split=1")).data.read(faces)
    first.append(judge_method(pixels(second.training, 1), second.held_out, seed=1)[0])
    assert [figure["mean"] for figure in rows[0]["figures"]] == pytest.approx(np.mean(first, axis=0), abs=0.01)


def test_every_variant_is_a_recipe():
    for changes in faces_tried.TRIED.values():
        recipe = load_recipe(faces_tried.RECIPE, changes)
        assert recipe.network.kind == "gradients"
        assert recipe.network.dim <= recipe.network.features(recipe.preprocess.size)
