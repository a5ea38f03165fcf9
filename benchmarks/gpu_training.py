"""The training part of `benchmarks.gpu`: the cost of a step, and training a recipe within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.training_step import measure
from model.preprocess import Preprocess
from training.batches import make_batches
from training.checkpoint import CHECKPOINT_FILE, write_checkpoint
from training.data.labelled import prepare
from training.history import History
from training.loop import Progress, train
from training.machine import Machine
from training.recipe import load_recipe
from training.run import Run, start_run

Row: TypeAlias = dict[str, Any]

_SPARE: Final = 0.08
"""Share of the time reserved for validation and for the end of the run."""
_PROBED: Final = 40


def step_costs(recipes: Sequence[str], datasets: Path, machine: Machine, steps: int) -> Iterator[Row]:
    """Measure a training step of each recipe, and its data loading alone, as medians over ``steps`` steps."""
    for name in recipes:
        recipe = load_recipe(name)
        division = recipe.data.read(datasets)
        training = prepare(division.training, Preprocess(recipe.preprocess))
        batches = make_batches(recipe, division, training, machine)
        whole, data = measure(start_run(recipe, batches.n_classes, machine), batches, steps)
        yield {
            "recipe": name,
            "images": batches.n_images,
            "ms": 1000 * whole,
            "data_ms": 1000 * data,
            "images_per_s": batches.n_images / whole,
            "precision": machine.precision,
        }


def train_within(
    source: str,
    changes: tuple[str, ...],
    datasets: Path,
    *,
    machine: Machine,
    seconds: float,
    folder: Path,
    listen: Callable[[Progress], None] = lambda _: None,
) -> Row:
    """Train a recipe for about ``seconds`` in total, and write a small checkpoint and the history to ``folder``.

    The number of steps is derived from the speed of a few, so that the schedule runs to its end. ``oneshot-train fit``
    with the returned ``settings`` finds all steps done in that folder, calibrates, and writes the artefact.
    """
    began = time.perf_counter()
    recipe = load_recipe(source, changes)
    division = recipe.data.read(datasets)
    preprocess = Preprocess(recipe.preprocess)
    training, held_out = prepare(division.training, preprocess), prepare(division.held_out, preprocess)
    batches = make_batches(recipe, division, training, machine)
    step = measure(start_run(recipe, batches.n_classes, machine), batches, _PROBED)[0]
    left = seconds - (time.perf_counter() - began)
    settings = (*changes, f"optimizer.steps={max(1, int((1 - _SPARE) * left / step))}")
    recipe = load_recipe(source, settings)
    looks: list[Progress] = []
    history = History(folder)

    def note(progress: Progress) -> None:
        history(progress)
        listen(progress)
        if progress.error is not None:
            looks.append(progress)

    run = train(
        recipe,
        training,
        held_out,
        folder,
        n_way=division.n_way,
        batches=batches,
        machine=machine,
        listen=note,
        checkpoint_seconds=seconds,
    )
    keep_weights(run, folder)
    return {
        "recipe": recipe.name,
        "settings": list(settings),
        "precision": machine.precision,
        "images": recipe.optimizer.steps * batches.n_images,
        "seconds": time.perf_counter() - began,
        "looks": [{"step": each.step, "error": each.error} for each in looks],
    }


def keep_weights(run: Run, folder: Path) -> None:
    """Replace a finished run's checkpoint with one that has only the weights to keep, a quarter of its size."""
    run.averaged, run.best = {}, {}
    tensors = {name: value for name, value in run.tensors().items() if not name.startswith("optimizer/")}
    write_checkpoint(folder / CHECKPOINT_FILE, tensors, run.facts())
