"""The training loop. A run that resumes from its checkpoint gives the same result as an uninterrupted one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from training.batches import Batches, distorted_batches
from training.checkpoint import CHECKPOINT_FILE, write_checkpoint
from training.data.labelled import PreparedImages
from training.episodes import Trials, any_class_trials, embed_pixels, judge_trials, within_group_trials
from training.machine import Machine
from training.optimizers import schedule
from training.recipe import Recipe
from training.run import Run, start_run
from training.whitening import whiten

VALIDATION_WAY = 20
VALIDATION_SEED = 20
_QUERIES = 20
"""Queries per draw of supports in trials over all held-out classes."""


class TrainingError(Exception):
    """Training cannot continue; ``str(error)`` says why and what to change."""


@dataclass(frozen=True)
class Progress:
    """A listener gets one after each step."""

    step: int
    steps: int
    loss: float
    images: int
    seconds: float
    error: float | None = None
    """Share of wrong one-shot trials on the held-out classes, on the steps that evaluate them."""
    learning_rate: float = 0.0


def train(
    recipe: Recipe,
    training: PreparedImages,
    held_out: PreparedImages,
    folder: Path,
    *,
    n_way: int | None = VALIDATION_WAY,
    batches: Batches | None = None,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    listen: Callable[[Progress], None] = lambda _: None,
    checkpoint_seconds: float = 60,
) -> Run:
    """Train ``recipe`` to its last step, or until patience runs out, and return the run with the weights to keep.

    A checkpoint in ``folder`` is resumed; the result is that of an uninterrupted run.

    Args:
        n_way: classes in a validation trial, all of one group; None: all held-out classes.
        batches: the training batches; None: images of ``training`` with the recipe's distortions.

    Raises:
        TrainingError: the loss is no longer finite.
        CheckpointError: the checkpoint in the folder belongs to another recipe.
    """
    batches = batches or distorted_batches(recipe, training)
    run = start_run(recipe, batches.n_classes, machine)
    trials = validation_trials(held_out, n_way, recipe.validation_trials)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CHECKPOINT_FILE
    if file.exists():
        run.restore(file)
    began = saved = time.monotonic()
    first = run.step
    steps = recipe.optimizer.steps
    while run.step < steps and not _out_of_patience(run):
        loss = train_step(run, batches)
        last = run.step == steps
        error = _look(run, held_out, trials) if last or run.step % recipe.validate_every == 0 else None
        rate = run.optimizer.param_groups[0]["lr"]
        images = (run.step - first) * batches.n_images
        listen(Progress(run.step, steps, loss, images, time.monotonic() - began, error, rate))
        ending = last or _out_of_patience(run)
        if machine.rank == 0 and (ending or time.monotonic() - saved > checkpoint_seconds):
            write_checkpoint(file, run.tensors(), run.facts())
            saved = time.monotonic()
    run.use_kept_weights()
    if recipe.whitening is not None:
        whiten(run.network, training, recipe.whitening)
    return run


def validation_trials(held_out: PreparedImages, n_way: int | None, n_trials: int) -> Trials:
    """Draw the validation trials of training, always the same ones."""
    if n_way is not None:
        return within_group_trials(held_out, n_way=n_way, n_trials=n_trials, seed=VALIDATION_SEED)
    queries = min(_QUERIES, len(held_out.classes) - held_out.n_classes)
    return any_class_trials(held_out, n_draws=-(-n_trials // queries), n_queries=queries, seed=VALIDATION_SEED)


def _out_of_patience(run: Run) -> bool:
    patience = run.recipe.patience
    return bool(patience) and run.step - run.best_step >= patience * run.recipe.validate_every


def train_step(run: Run, batches: Batches) -> float:
    """Do one optimizer step and return its loss.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    run.learner.train()
    images, classes = batches.draw(run.generator, run.step, run.machine)
    taught = run.teacher.embed(images).float() if run.teacher else None
    if taught is not None:
        taught = taught.view(len(classes) // run.machine.world, -1, taught.shape[1])
    loss: Tensor = run.learner(images, classes, taught)
    value = loss.item()
    if not math.isfinite(value):
        raise TrainingError(f"the loss is {value} at step {run.step}; lower optimizer.learning_rate or optimizer.clip")
    schedule(run.optimizer, run.recipe.optimizer, run.step)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(parameters, run.recipe.optimizer.clip)
    run.optimizer.step()
    run.step += 1
    _average(run)
    return value


def _average(run: Run) -> None:
    """Move the averaged weights towards the current ones (batch norm's statistics too)."""
    decay = run.recipe.optimizer.ema
    if not decay:
        return
    # A smaller decay early on, so that the average forgets the initial weights.
    decay = min(decay, (1 + run.step) / (10 + run.step))
    for name, value in run.network.state_dict().items():
        if name not in run.averaged or not value.is_floating_point():
            run.averaged[name] = value.clone()
        else:
            run.averaged[name].lerp_(value, 1 - decay)


def _look(run: Run, held_out: PreparedImages, trials: Trials) -> float:
    """Return the share of wrong trials with the weights that would be kept; with patience, remember the best."""
    error = run.machine.agree(_held_out_error(run, held_out, trials) if run.machine.rank == 0 else None)
    if run.recipe.patience:
        run.remember(error)
    return error


def _held_out_error(run: Run, held_out: PreparedImages, trials: Trials) -> float:
    current = {name: value.clone() for name, value in run.network.state_dict().items()}
    if run.averaged:
        run.network.load_state_dict(run.averaged)
    vectors = embed_pixels(run.network, run.similarity, held_out.pixels)
    run.network.load_state_dict(current)
    return float(1 - np.mean(judge_trials(run.similarity.metric, vectors, trials)))
