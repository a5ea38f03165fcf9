"""From a recipe to an artefact: read, train, calibrate, save."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.artifact import Artifact, files_of, load_artifact, save_artifact, write_manifest
from model.calibrating import check_enough, fit_calibration
from model.calibration import Calibration
from model.distances import Vectors
from model.embedder import Embedder
from model.manifest import Metric
from model.preprocess import Preprocess
from training.batches import make_batches
from training.card import write_card
from training.data.division import Division
from training.data.labelled import LabelledImages, PreparedImages, prepare
from training.episodes import embed_pixels
from training.evaluate import embed
from training.history import History
from training.loop import Progress, train
from training.machine import Machine
from training.recipe import Recipe
from training.run import Run


def fit(
    recipe: Recipe,
    datasets: Path,
    folder: Path,
    *,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    listen: Callable[[Progress], None] = lambda _: None,
    checkpoint_seconds: float = 60,
) -> Artifact:
    """Train ``recipe`` on the data in ``datasets`` and write artefact, card, history and checkpoint to ``folder``.

    Raises:
        DatasetError: the data is missing or too small.
        CalibrationError: too few images are held out to calibrate on.
        TrainingError: the loss is no longer finite.
        CheckpointError: ``folder`` holds another recipe's checkpoint.
    """
    preprocess = Preprocess(recipe.preprocess)
    division = recipe.data.read(datasets)
    training, held_out = prepare(division.training, preprocess), prepare(division.held_out, preprocess)
    check_enough(np.bincount(division.held_out.classes))
    history = History(folder)

    def note(progress: Progress) -> None:
        if machine.rank == 0:
            history(progress)
        listen(progress)

    run = train(
        recipe,
        training,
        held_out,
        folder,
        n_way=division.n_way,
        batches=make_batches(recipe, division, training, machine),
        machine=machine,
        listen=note,
        checkpoint_seconds=checkpoint_seconds,
    )
    if machine.rank == 0:
        _write(run, held_out, division, folder)
    machine.agree(0)  # the other processes wait until the artefact is written
    return load_artifact(folder)


def _write(run: Run, held_out: PreparedImages, division: Division, folder: Path) -> None:
    recipe = run.recipe
    vectors = embed_pixels(run.network, run.similarity, held_out.pixels)
    calibration = fit_held_out(run.similarity.metric, vectors, held_out, division)
    artifact = save_artifact(
        folder,
        name=recipe.name,
        network=run.network,
        network_spec=recipe.network,
        preprocess=recipe.preprocess,
        similarity=run.similarity,
        calibration=calibration,
        recipe=recipe.model_dump(mode="json"),
    )
    write_card(folder, artifact.manifest)


def fit_held_out(metric: Metric, vectors: Vectors, held_out: PreparedImages, division: Division) -> Calibration:
    """Fit a calibration to the vectors of the images that ``division`` held out."""
    return fit_calibration(
        metric,
        vectors,
        held_out.classes.numpy(),
        groups=held_out.groups[held_out.classes].numpy(),
        within_share=division.within_share,
        source=division.source,
    )


def recalibrate(
    artifact: Artifact, images: LabelledImages, folder: Path, *, source: str, prior: float = 0.5
) -> Artifact:
    """Write ``artifact`` to ``folder`` with a calibration fitted on ``images``; its digest does not change.

    Raises:
        CalibrationError: too few images, or the network does not separate these classes.
    """
    manifest = artifact.manifest
    prepared = prepare(images, Preprocess(manifest.preprocess))
    vectors = embed(Embedder(artifact, "cpu"), prepared.pixels)
    calibration = fit_calibration(manifest.metric, vectors, prepared.classes.numpy(), source=source, prior=prior)
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != artifact.path.resolve():
        for name in files_of(manifest):
            shutil.copyfile(artifact.path / name, folder / name)
    changed = manifest.model_copy(update={"calibration": calibration})
    write_manifest(folder, changed)
    write_card(folder, changed)
    return load_artifact(folder)
