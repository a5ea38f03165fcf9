"""Training in several processes of a Ray cluster: the same loop as under ``torchrun``, placed and supervised by Ray.

If a process or its node dies, the attempt fails and the next one resumes from the last checkpoint. The data and the
artefact's folder must have the same path on every node.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from model.artifact import Artifact, load_artifact
from model.embedder import pick_device
from model.on_ray import NoClusterError, cluster
from training.fit import fit
from training.loop import Progress, TrainingError
from training.machine import Team, processes
from training.recipe import Recipe

_ATTEMPTS = 3
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class _Work:
    """The arguments of each process."""

    recipe: Recipe
    datasets: Path
    folder: Path
    team: Team
    gpu: bool
    checkpoint_seconds: float
    told: Queue
    start: Path  # working directory, for relative paths in the recipe


def fit_on_ray(
    recipe: Recipe,
    datasets: Path,
    folder: Path,
    *,
    team: Team,
    listen: Callable[[Progress], None] = lambda _: None,
    checkpoint_seconds: float = 60,
) -> Artifact:
    """Run ``training.fit.fit`` in processes of the cluster at ``RAY_ADDRESS``, or of a local one.

    Raises:
        TrainingError: there is no cluster, or every attempt failed.
        ValueError: the device names one of a single machine, such as ``cuda:1``.

    The errors of ``fit`` are raised too.
    """
    gpu = _gpu(team.device)
    try:
        with cluster(cpus=team.workers + 1), tempfile.TemporaryDirectory(prefix="oneshot-train-") as scratch:
            told = Queue(actor_options={"num_cpus": 0})
            work = _Work(recipe, datasets.resolve(), folder.resolve(), team, gpu, checkpoint_seconds, told, Path.cwd())
            trainer = TorchTrainer(
                _train,
                train_loop_config={"work": work},
                scaling_config=ScalingConfig(num_workers=team.workers, use_gpu=gpu),
                run_config=RunConfig(
                    name=recipe.name, storage_path=scratch, failure_config=FailureConfig(max_failures=_ATTEMPTS - 1)
                ),
            )
            _follow(trainer, told, listen)
    except NoClusterError as error:
        raise TrainingError(str(error)) from error
    return load_artifact(folder)


def _gpu(device: str) -> bool:
    """Whether each process gets a GPU."""
    if device not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"--device {device} names a device of one machine; with --engine ray say auto, cpu or cuda")
    return device == "cuda" or (device == "auto" and pick_device("auto").type == "cuda")


def _train(config: dict[str, _Work]) -> None:
    """The work of one process; Ray has already initialised torch's process group."""
    work = config["work"]
    torch.set_num_threads(work.team.threads)
    if work.start.is_dir():
        os.chdir(work.start)
    last = 0.0

    def tell(step: Progress) -> None:
        nonlocal last
        if step.error is not None or time.monotonic() - last > _LOOK_SECONDS:
            last = time.monotonic()
            work.told.put(step)

    device = get_device() if work.gpu else torch.device("cpu")
    try:
        with processes(device, work.team.precision) as machine:
            quiet: Callable[[Progress], None] = lambda _: None  # noqa: E731
            listen = tell if machine.rank == 0 else quiet
            fit(
                work.recipe,
                work.datasets,
                work.folder,
                machine=machine,
                listen=listen,
                checkpoint_seconds=work.checkpoint_seconds,
            )
    except Exception as error:
        work.told.put(error)
        raise


def _follow(trainer: TorchTrainer, told: Queue, listen: Callable[[Progress], None]) -> None:
    """Run the trainer and pass its first process's progress to ``listen``. Raises the error of the last attempt."""
    failures: list[Exception] = []
    causes: list[Exception] = []

    def run() -> None:
        try:
            trainer.fit()
        except Exception as error:  # raised below
            failures.append(error)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive() or not told.empty():
        with suppress(Empty):
            heard = told.get(timeout=_LOOK_SECONDS)
            if isinstance(heard, Progress):
                listen(heard)
            else:
                causes.append(heard)
    if failures:
        raise causes[-1] if causes else TrainingError(f"the processes on Ray failed: {failures[0]}")
