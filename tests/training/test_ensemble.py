"""Ensembles compare by the mean of their members' cosines; an int8 form is measured before it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.artifact import INT8_FOLDER, Artifact, load_artifact, read_manifest, save_artifact
from model.distances import paired_distances
from model.embedder import Embedder
from model.manifest import ConvSpec, EnsembleSpec, PreprocessSpec, SimilaritySpec, embedding_dim
from model.networks import build_network
from model.similarity import Cosine
from testing.factories import make_calibration
from testing.synthetic import TINY_RECIPE, write_tree
from training.cli import main
from training.ensemble import join
from training.loop import TrainingError
from training.quantise import TRIALS, quantise
from training.recipe import Recipe, load_recipe


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("omniglot"))


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[Artifact]:
    """Two untrained artefacts of one recipe."""
    folder = tmp_path_factory.mktemp("members")
    (folder / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    recipe = load_recipe(str(folder / "tiny.toml"))
    return [make_member(folder / str(seed), recipe, seed) for seed in range(2)]


def make_member(folder: Path, recipe: Recipe, seed: int) -> Artifact:
    torch.manual_seed(seed)
    return save_artifact(
        folder,
        name=f"m{seed}",
        network=build_network(recipe.network, recipe.preprocess).eval(),
        network_spec=recipe.network,
        preprocess=recipe.preprocess,
        similarity=Cosine(embedding_dim(recipe.network, recipe.preprocess)),
        calibration=make_calibration(),
        recipe=recipe.model_dump(mode="json"),
    )


def make_images(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).random((n, 1, 20, 20), dtype=np.float32)


def test_the_distance_is_the_mean_of_the_members(members, tree, tmp_path):
    joined = join(members, tree, tmp_path / "both", name="both")
    images = make_images()
    found, *own = [Embedder(each, "cpu").embed(images) for each in (joined, *members)]
    assert found.shape == (6, 32)
    halves = [paired_distances("cosine", vectors[:3], vectors[3:]) for vectors in (found, *own)]
    assert halves[0] == pytest.approx(np.mean(halves[1:], axis=0), abs=1e-5)
    assert joined.manifest.joined == tuple(each.manifest.model_id for each in members)
    assert joined.manifest.calibration != members[0].manifest.calibration
    assert members[1].manifest.model_id in (tmp_path / "both" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"similarity": SimilaritySpec(kind="euclidean", dim=16)}, "compared by cosine"),
        ({"network": EnsembleSpec(members=(ConvSpec(), ConvSpec()))}, "single network"),
        ({"preprocess": PreprocessSpec(size=24)}, "different input"),
        ({"recipe": {"data": {"held_out": ["Beta"]}}}, "hold out the same"),
        ({"recipe": {}}, "hold out the same"),
    ],
)
def test_what_does_not_fit_is_not_joined(members, tree, tmp_path, changes, reason):
    other = replace(members[1], manifest=members[1].manifest.model_copy(update=changes))
    with pytest.raises(ValueError, match=reason):
        join([members[0], other], tree, tmp_path / "never", name="never")
    assert not (tmp_path / "never").exists()


def test_the_command_names_what_it_made(members, tree, tmp_path, monkeypatch):
    command = ["oneshot-train", "ensemble", *(str(each.path) for each in members), "--data", str(tree)]
    command += ["--out", str(tmp_path / "pair"), "--threads", "1"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert read_manifest(tmp_path / "pair").name == "pair"


def test_an_int8_form_of_members(members, tree, tmp_path):
    joined = join(members, tree, tmp_path / "both", name="both")
    with pytest.raises(TrainingError, match="int8 has"):
        quantise(joined, tree, most_loss=-101)
    assert not (joined.path / INT8_FOLDER).exists()
    made, found = quantise(joined, tree, most_loss=100)
    assert found.f32 - found.int8 < 5, f"of {TRIALS} trials"
    assert made.manifest.joined == joined.manifest.joined
    assert made.manifest.quantised is not None
    assert made.manifest.quantised.source == joined.manifest.digest
    images = make_images()
    vectors = [Embedder(load_artifact(folder), "cpu", 1).embed(images) for folder in (joined.path, made.path)]
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.95
