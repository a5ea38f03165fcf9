"""From a recipe to an artefact: deterministic, resumable after a kill, calibrated, and usable by the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model import DEFAULT_ARTIFACT
from model.artifact import load_artifact
from model.embedder import Embedder
from model.manifest import PreprocessSpec
from model.preprocess import Preprocess
from testing.synthetic import TINY_RECIPE, write_tree
from training.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from training.cli import main
from training.data.labelled import DatasetError, prepare
from training.data.omniglot import read_omniglot
from training.data.parts import OmniglotPart
from training.episodes import embed_pixels, judge_trials
from training.fit import fit
from training.loop import TrainingError, train, validation_trials
from training.recipe import RECIPES, RecipeError, SamplerPart, load_recipe
from training.report.measure import measure, measurements
from training.run import Run
from training.samplers import ClassSampler


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("omniglot"))


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    return file


@pytest.mark.parametrize(
    ("similarity", "objective"),
    [("cosine", "softmax"), ("cosine", "matching"), ("weighted-l1", "pair-bce"), ("euclidean", "contrastive")],
)
def test_every_objective_trains_to_a_usable_artefact(tree, tmp_path, recipe_file, similarity, objective):
    recipe_file.write_text(TINY_RECIPE.format(similarity=similarity, objective=objective))
    losses: list[float] = []
    recipe = load_recipe(str(recipe_file), ("optimizer.steps=60",))
    artifact = fit(recipe, tree, tmp_path / "out", listen=lambda progress: losses.append(progress.loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    calibration = artifact.manifest.calibration
    assert calibration.n_classes == 21
    assert calibration.probability(0) > 0.5
    assert artifact.manifest.recipe["name"] == "tiny"
    embedder = Embedder(load_artifact(tmp_path / "out"), "cpu")
    assert embedder.dim == 16
    assert "Gamma" in (tmp_path / "out" / "README.md").read_text()


def test_same_seed_same_weights(tree, tmp_path, recipe_file):
    digests = [
        fit(load_recipe(str(recipe_file), change), tree, tmp_path / name).manifest.weights.sha256
        for name, change in (("a", ()), ("b", ()), ("c", ("seed=4",)))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_killed_run_goes_on_to_the_same_result(tree, tmp_path, recipe_file):
    """SIGKILL in mid-training, then the same command again: the weights are bit-identical to an undisturbed run's."""
    command = [sys.executable, "-m", "training", "fit", str(recipe_file), "--data", str(tree), "--threads", "1"]
    command += ["--checkpoint-seconds", "0", "--device", "cpu", "--set", "optimizer.steps=40"]
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (checkpoint.exists() and read_step(checkpoint) >= 5):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= read_step(checkpoint) < 40
    for folder in ("killed", "undisturbed"):
        subprocess.run([*command, "--out", str(tmp_path / folder)], check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "killed/weights.safetensors").read_bytes() == (
        tmp_path / "undisturbed/weights.safetensors"
    ).read_bytes()


def read_step(checkpoint):
    return int(str(read_checkpoint(checkpoint)[1]["step"]))


def test_a_checkpoint_of_another_recipe_is_refused(tree, tmp_path, recipe_file):
    fit(load_recipe(str(recipe_file)), tree, tmp_path / "out")
    with pytest.raises(CheckpointError, match="another recipe"):
        fit(load_recipe(str(recipe_file), ("seed=9",)), tree, tmp_path / "out")


def test_a_checkpoint_from_before_a_setting_goes_on(tree, tmp_path, recipe_file):
    """The recipe counts as the same if the missing setting has its default, and as another one otherwise."""
    fit(load_recipe(str(recipe_file)), tree, tmp_path / "out")
    file = tmp_path / "out" / "checkpoint.safetensors"
    tensors, facts = read_checkpoint(file)
    recipe = facts["recipe"]
    assert isinstance(recipe, dict)
    assert isinstance(recipe["augment"], dict)
    del recipe["augment"]["bold"]
    write_checkpoint(file, tensors, facts)
    fit(load_recipe(str(recipe_file)), tree, tmp_path / "out")
    write_checkpoint(file, tensors, facts)
    with pytest.raises(CheckpointError, match="another recipe"):
        fit(load_recipe(str(recipe_file), ("augment.bold=0.1",)), tree, tmp_path / "out")


def test_a_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        read_checkpoint(tmp_path / "checkpoint")
    write_checkpoint(tmp_path / "checkpoint", {"a": torch.arange(3)}, {"step": 1})
    tensors, facts = read_checkpoint(tmp_path / "checkpoint")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert facts == {"step": 1}


def test_a_loss_that_is_no_number_stops_the_run(tree, tmp_path, recipe_file):
    images = read_omniglot(tree, "background")
    preprocess = Preprocess(PreprocessSpec(size=20))
    recipe = load_recipe(str(recipe_file), ("optimizer.learning_rate=1e30", "optimizer.clip=1e30"))
    with pytest.raises(TrainingError, match=r"lower optimizer\.learning_rate"):
        train(
            recipe,
            prepare(images.without_groups(["Gamma"]), preprocess),
            prepare(images.in_groups(["Gamma"]), preprocess),
            tmp_path,
        )


def test_averaged_weights_are_what_is_kept(tree, tmp_path, recipe_file, monkeypatch):
    kept = fit(load_recipe(str(recipe_file)), tree, tmp_path / "averaged")
    monkeypatch.setattr(Run, "use_kept_weights", lambda run: None)
    last = fit(load_recipe(str(recipe_file)), tree, tmp_path / "last")
    assert kept.manifest.weights.sha256 != last.manifest.weights.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("surprise=1", "surprise"),
        ("optimizer.steps=0", "optimizer.steps"),
        ("optimizer.steps=-1", "optimizer.steps"),
        ("network.kind='vgg'", "network"),
        ("name='../x'", "name"),
        ("nonsense", "part.key=value"),
    ],
)
def test_recipes_that_are_none(recipe_file, change, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(recipe_file), (change,))


def test_recipes_that_are_not_there_or_not_toml(tmp_path):
    with pytest.raises(RecipeError, match="omniglot"):
        load_recipe("no-such-recipe")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_the_projects_recipes_are_valid(file):
    assert load_recipe(file.stem).name == file.stem


def test_patience_ends_a_run_and_keeps_its_best_weights(tree, tmp_path, recipe_file):
    images = read_omniglot(tree, "background")
    training, held_out = (
        prepare(part, Preprocess(PreprocessSpec(size=20)))
        for part in (images.without_groups(["Gamma"]), images.in_groups(["Gamma"]))
    )
    changes = ("optimizer.steps=2000", "validate_every=5", "patience=2", "validation_trials=300")
    recipe = load_recipe(str(recipe_file), changes)
    looks: list[float] = []

    def listen(progress):
        if progress.error is not None:
            looks.append(progress.error)

    run = train(recipe, training, held_out, tmp_path / "out", listen=listen)
    assert run.step == 5 * len(looks) < 2000, "patience never ended"
    best = looks.index(min(looks))
    assert len(looks) - 1 - best == 2
    vectors = embed_pixels(run.network, run.similarity, held_out.pixels)
    right = judge_trials("cosine", vectors, validation_trials(held_out, 20, 300))
    assert 1 - right.mean() == pytest.approx(min(looks))
    again = train(recipe, training, held_out, tmp_path / "out")  # from the final checkpoint, so nothing is left to do
    assert again.step == run.step
    assert torch.equal(again.network.state_dict()["embed.weight"], run.network.state_dict()["embed.weight"])


def test_curves_for_tensorboard(tree, tmp_path, recipe_file, monkeypatch):
    """The option writes event files that TensorBoard can read."""
    out = tmp_path / "out"
    command = ["oneshot-train", "fit", str(recipe_file), "--data", str(tree), "--out", str(out), "--tensorboard"]
    monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu", "--threads", "1"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))
    assert [event.step for event in events.Scalars("held-out error")] == [12]
    assert all(event.value > 0 for event in events.Scalars("images per second"))


def test_drawers_are_divided(tree):
    part = OmniglotPart(held_out=("Gamma",), training_drawers=(1, 2, 3), held_out_drawers=(5, 6))
    division = part.read(tree)
    assert set(division.training.sources) == {1, 2, 3}
    assert set(division.held_out.sources) == {5, 6}
    assert len(division.held_out.images) == 2 * 21
    with pytest.raises(DatasetError, match="has no image by"):
        OmniglotPart(held_out=("Gamma",), training_drawers=(9,)).read(tree)


def test_repeated_batches(tree):
    images = prepare(read_omniglot(tree, "background"), Preprocess(PreprocessSpec(size=12)))
    sampler = ClassSampler(images, SamplerPart(classes=10, batches=3), seed=1)
    drawn = [sampler.draw(torch.Generator().manual_seed(step), step).images for step in range(6)]
    assert all(torch.equal(drawn[step], drawn[step + 3]) for step in range(3))
    assert not torch.equal(drawn[0], drawn[1])
    other = ClassSampler(images, SamplerPart(classes=10, batches=3), seed=2)
    assert not torch.equal(other.draw(torch.Generator(), 0).images, drawn[0])


def test_command_line_errors_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["oneshot-train", "evaluate", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


needs_data = pytest.mark.skipif("ONESHOT_DATASETS" not in os.environ, reason="ONESHOT_DATASETS names no data")


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_figures_are_what_the_harness_measures():
    """The manifest's accuracy, remeasured on this machine (rounding may flip a trial or two)."""
    artifact = load_artifact(DEFAULT_ARTIFACT)
    measured = measurements(measure(artifact, Path(os.environ["ONESHOT_DATASETS"]), command=""))
    assert [row.protocol for row in measured] == [row.protocol for row in artifact.manifest.accuracy]
    for now, then in zip(measured, artifact.manifest.accuracy, strict=True):
        assert now.value == pytest.approx(then.value, abs=0.5)
    assert json.loads((DEFAULT_ARTIFACT / "manifest.json").read_text())["checksum"] == artifact.manifest.checksum
