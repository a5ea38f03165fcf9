"""The state of a training run: everything that the next step depends on, saved in one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.artifact import load_artifact
from model.manifest import SimilaritySpec, embedding_dim
from model.networks import build_network
from model.similarity import Similarity, build_similarity
from training.checkpoint import CheckpointError, State, optimizer_tensors, read_checkpoint, restore_optimizer
from training.losses import Embedded, build_loss
from training.machine import Machine, share_batch_norm
from training.objectives import DistillObjective
from training.optimizers import build_optimizer
from training.recipe import Recipe
from training.teacher import Teacher


class Learner(nn.Module):
    """Network and loss in one module: from this process's images to the loss of the whole batch."""

    def __init__(self, network: nn.Module, loss: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.machine = machine

    def forward(self, images: Tensor, classes: Tensor, taught: Tensor | None) -> Tensor:
        """Return the loss of the batch of ``classes`` (P,).

        ``images`` (p * K, channels, size, size) and ``taught`` (p, K, dim) belong to this process's p classes. Every
        process computes the loss over all P classes, so that each image is compared with all others. The gradient that
        DistributedDataParallel averages over processes then equals that of a single process.
        """
        with self.machine.autocast():
            embeddings = self.network(images).float()
        embeddings = embeddings.view(len(classes) // self.machine.world, -1, embeddings.shape[1])
        if taught is not None:
            taught = self.machine.gather(taught)
        loss: Tensor = self.loss(Embedded(self.machine.gather(embeddings), classes, taught))
        return loss


@dataclass
class Run:
    """The state of a training run after ``step`` steps."""

    recipe: Recipe
    network: nn.Module
    similarity: Similarity
    loss: nn.Module
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    machine: Machine
    teacher: Teacher | None = None
    averaged: State = field(default_factory=dict)
    best: State = field(default_factory=dict)
    """Network and similarity at the lowest held-out error so far; only with ``recipe.patience``."""
    best_error: float = float("inf")
    best_step: int = 0
    step: int = 0

    def tensors(self) -> State:
        """Return all tensors that the next step depends on, by name."""
        parts = {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "similarity": self.similarity.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "averaged": self.averaged,
            "best": self.best,
            "generator": {"state": self.generator.get_state()},
        }
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def facts(self) -> dict[str, JsonValue]:
        """Return the other state that the next step depends on."""
        best = {"best_error": self.best_error, "best_step": self.best_step} if self.best else {}
        recipe = self.recipe.model_dump(mode="json")
        return {"step": self.step, "recipe": recipe, "precision": self.machine.precision, **best}

    def restore(self, file: Path) -> None:
        """Resume from the checkpoint ``file``.

        Raises:
            CheckpointError: it is not a checkpoint, or belongs to another recipe or precision.
        """
        tensors, facts = read_checkpoint(file)
        if not _same_recipe(facts["recipe"], self.recipe):
            raise CheckpointError(f"{file} belongs to another recipe; name another folder or remove it")
        if facts.get("precision", "float32") != self.machine.precision:
            raise CheckpointError(f"{file} was computed in {facts.get('precision')}; go on with that --precision")

        def part(name: str) -> State:
            return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

        self.network.load_state_dict(part("network"))
        self.loss.load_state_dict(part("loss"))
        self.similarity.load_state_dict(part("similarity"))
        restore_optimizer(self.optimizer, part("optimizer"))
        self.averaged, self.best = part("averaged"), part("best")
        self.generator.set_state(part("generator")["state"])
        self.step = int(str(facts["step"]))
        if self.best:
            self.best_error, self.best_step = float(str(facts["best_error"])), int(str(facts["best_step"]))

    def remember(self, error: float) -> None:
        """Keep the current weights if ``error`` is the lowest so far."""
        if error < self.best_error:
            self.best_error, self.best_step = error, self.step
            # With EMA, the averaged weights are the ones to keep.
            network = self.averaged or self.network.state_dict()
            tensors = {"network": network, "similarity": self.similarity.state_dict()}
            self.best = {
                f"{part}/{name}": value.clone() for part, all_ in tensors.items() for name, value in all_.items()
            }

    def use_kept_weights(self) -> None:
        """Load the weights to keep into network and similarity: the best, else the averaged, else the last ones."""
        if self.best:
            for name, module in (("network", self.network), ("similarity", self.similarity)):
                own = {
                    key.removeprefix(f"{name}/"): value
                    for key, value in self.best.items()
                    if key.startswith(f"{name}/")
                }
                module.load_state_dict(own)
        elif self.averaged:
            self.network.load_state_dict(self.averaged)


def _same_recipe(content: JsonValue, recipe: Recipe) -> bool:
    """Whether a checkpoint's recipe is equal once defaults fill settings that are newer than the checkpoint."""
    try:
        return Recipe.model_validate(content) == recipe
    except ValidationError:
        return False


def start_run(recipe: Recipe, n_classes: int, machine: Machine) -> Run:
    """Return a run at step 0, with random weights from the recipe's seed or those of the recipe's ``init`` artefact.

    Raises:
        ArtifactError: the artefact to start from, or the teacher's, cannot be read.
        ValueError: parts of the recipe are inconsistent.
    """
    teacher = _teacher(recipe, machine.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build_network(recipe.network, recipe.preprocess)
        dim = embedding_dim(recipe.network, recipe.preprocess)
        similarity = build_similarity(SimilaritySpec(kind=recipe.similarity, dim=dim))
        loss = build_loss(recipe.objective, similarity, n_classes, teacher)
    if recipe.init_folder is not None:
        artifact = load_artifact(recipe.init_folder)
        network.load_state_dict(artifact.network.state_dict())
        similarity.load_state_dict(artifact.similarity.state_dict())
    network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    similarity.to(machine.device)
    learner: nn.Module = Learner(network, loss, machine).to(machine.device)
    if machine.world > 1:
        share_batch_norm(network)
        # A static graph allows parameters that no objective uses, such as the bias of the weighted L1.
        learner = DistributedDataParallel(learner, static_graph=True)
    optimizer = build_optimizer(recipe.optimizer, {"network": network, "similarity": similarity, "loss": loss})
    generator = torch.Generator().manual_seed(recipe.seed)
    return Run(recipe, network, similarity, loss, learner, optimizer, generator, machine, teacher)


def _teacher(recipe: Recipe, device: torch.device) -> Teacher | None:
    paths = {part.teacher for part in recipe.objective if isinstance(part, DistillObjective)}
    if len(paths) > 1:
        raise ValueError(f"one teacher at a time, not {', '.join(sorted(paths))}")
    return Teacher(Path(paths.pop()), recipe.preprocess, device) if paths else None
