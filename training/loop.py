"""The training loop: one recipe, one seed, resumable to the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.manifest import SimilaritySpec
from model.networks import build_network, embedding_dim
from model.similarity import Similarity, build_similarity
from training.augment import Augment
from training.checkpoint import (
    CheckpointError,
    State,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from training.data.labelled import PreparedImages
from training.episodes import Trials, embed_pixels, judge_trials, within_group_trials
from training.losses import Embedded, build_loss
from training.machine import Machine
from training.objectives import DistillObjective
from training.recipe import OptimizerPart, Recipe
from training.samplers import ClassSampler
from training.teacher import Teacher
from training.whitening import whiten

VALIDATION_WAY = 20
VALIDATION_TRIALS = 4000
VALIDATION_SEED = 20


class TrainingError(Exception):
    """Training cannot go on; ``str(error)`` says why and what to change."""


@dataclass(frozen=True)
class Progress:
    """What a listener is told after each step."""

    step: int
    steps: int
    loss: float
    images: int
    seconds: float
    error: float | None = None
    """Share of wrong one-shot trials on the held-out classes, on the steps that look."""


@dataclass
class Run:
    """The state of one training run; ``step`` steps are done."""

    recipe: Recipe
    network: nn.Module
    similarity: Similarity
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    machine: Machine
    teacher: Teacher | None = None
    averaged: State = field(default_factory=dict)
    step: int = 0

    def tensors(self) -> State:
        """Return everything that the next step depends on, by name."""
        parts = {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "similarity": self.similarity.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "averaged": self.averaged,
            "generator": {"state": self.generator.get_state()},
        }
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def restore(self, tensors: State) -> None:
        """Undo ``tensors``."""

        def part(name: str) -> State:
            return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

        self.network.load_state_dict(part("network"))
        self.loss.load_state_dict(part("loss"))
        self.similarity.load_state_dict(part("similarity"))
        restore_optimizer(self.optimizer, part("optimizer"))
        self.averaged = part("averaged")
        self.generator.set_state(part("generator")["state"])


def start_run(recipe: Recipe, n_classes: int, machine: Machine) -> Run:
    """Return a run at step 0, its weights drawn from the recipe's seed."""
    device = machine.device
    teacher = _teacher(recipe, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build_network(recipe.network, recipe.preprocess)
        dim = embedding_dim(recipe.network, recipe.preprocess)
        similarity = build_similarity(SimilaritySpec(kind=recipe.similarity, dim=dim))
        loss = build_loss(recipe.objective, similarity, n_classes, teacher)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    similarity.to(device)
    loss.to(device)
    # The set drops what the loss shares with the similarity; the order stays.
    parameters = list(dict.fromkeys([*network.parameters(), *similarity.parameters(), *loss.parameters()]))
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    plain = [parameter for parameter in parameters if parameter.ndim <= 1]
    part = recipe.optimizer
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": part.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=part.learning_rate,
        betas=(0.9, 0.99),
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    return Run(recipe, network, similarity, loss, optimizer, generator, machine, teacher)


def _teacher(recipe: Recipe, device: torch.device) -> Teacher | None:
    paths = {part.teacher for part in recipe.objective if isinstance(part, DistillObjective)}
    if len(paths) > 1:
        raise ValueError(f"one teacher at a time, not {', '.join(sorted(paths))}")
    return Teacher(Path(paths.pop()), recipe.preprocess, device) if paths else None


def one_cycle(part: OptimizerPart, step: int) -> float:
    """Return the learning rate of ``step``: linear warm-up, then half a cosine down to zero."""
    warmup = max(1, round(part.warmup * part.steps))
    if step < warmup:
        return part.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, part.steps - warmup)
    return part.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(
    recipe: Recipe,
    training: PreparedImages,
    held_out: PreparedImages,
    folder: Path,
    *,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    listen: Callable[[Progress], None] = lambda _: None,
    checkpoint_seconds: float = 60,
) -> Run:
    """Train ``recipe`` to its last step and return the run, whose network holds the weights to keep.

    ``folder`` keeps the checkpoint; a run that stopped there goes on and ends as if it had not.

    Raises:
        TrainingError: the loss is no longer finite.
        CheckpointError: the folder's checkpoint is of another recipe.
    """
    sampler = ClassSampler(training, recipe.sampler, rotations=recipe.data.rotations)
    run = start_run(recipe, sampler.n_classes, machine)
    augment = Augment(recipe.augment)
    trials = within_group_trials(held_out, n_way=VALIDATION_WAY, n_trials=VALIDATION_TRIALS, seed=VALIDATION_SEED)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "checkpoint.safetensors"
    _resume(run, file)
    began = saved = time.monotonic()
    first = run.step
    steps = recipe.optimizer.steps
    while run.step < steps:
        loss = _step(run, sampler, augment)
        images = (run.step - first) * recipe.sampler.classes * recipe.sampler.images
        last = run.step == steps
        error = _validate(run, held_out, trials) if last or run.step % recipe.validate_every == 0 else None
        listen(Progress(run.step, steps, loss, images, time.monotonic() - began, error))
        if last or time.monotonic() - saved > checkpoint_seconds:
            write_checkpoint(file, run.tensors(), {"step": run.step, "recipe": recipe.model_dump(mode="json")})
            saved = time.monotonic()
    _use_average(run)
    if recipe.whitening is not None:
        whiten(run.network, training, recipe.whitening)
    return run


def _resume(run: Run, file: Path) -> None:
    if not file.exists():
        return
    tensors, facts = read_checkpoint(file)
    if facts["recipe"] != run.recipe.model_dump(mode="json"):
        raise CheckpointError(f"{file} belongs to another recipe; name another folder or remove it")
    run.restore(tensors)
    run.step = int(str(facts["step"]))


def _step(run: Run, sampler: ClassSampler, augment: Augment) -> float:
    """Do one optimizer step and return its loss."""
    run.network.train()
    batch = sampler.draw(run.generator)
    shape = batch.images.shape
    images = augment(batch.images.flatten(0, 1), run.generator)
    images = images.to(run.machine.device).contiguous(memory_format=torch.channels_last)
    with run.machine.autocast():
        embeddings = run.network(images).float().view(*shape[:2], -1)
        taught = run.teacher.embed(images).float().view(*shape[:2], -1) if run.teacher else None
    loss: Tensor = run.loss(Embedded(embeddings, batch.classes.to(run.machine.device), taught))
    value = loss.item()
    if not math.isfinite(value):
        raise TrainingError(f"the loss is {value} at step {run.step}; lower optimizer.learning_rate or optimizer.clip")
    for group in run.optimizer.param_groups:
        group["lr"] = one_cycle(run.recipe.optimizer, run.step)
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
    # Early on the average follows faster, so that it forgets the initial weights.
    decay = min(decay, (1 + run.step) / (10 + run.step))
    for name, value in run.network.state_dict().items():
        if name not in run.averaged or not value.is_floating_point():
            run.averaged[name] = value.clone()
        else:
            run.averaged[name].lerp_(value, 1 - decay)


def _use_average(run: Run) -> None:
    if run.averaged:
        run.network.load_state_dict(run.averaged)


def _validate(run: Run, held_out: PreparedImages, trials: Trials) -> float:
    """Return the share of wrong trials with the weights that would be kept."""
    current = {name: value.clone() for name, value in run.network.state_dict().items()}
    _use_average(run)
    vectors = embed_pixels(run.network, run.similarity, held_out.pixels)
    run.network.load_state_dict(current)
    return float(1 - np.mean(judge_trials(run.similarity.metric, vectors, trials)))
