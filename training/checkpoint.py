"""Checkpoints of a training run: a safetensors file, replaced atomically and never pickled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

CHECKPOINT_FILE = "checkpoint.safetensors"
"""File name in the run's folder."""


class CheckpointError(Exception):
    """The run cannot resume from the checkpoint; ``str(error)`` says why."""


State = dict[str, Tensor]


def write_checkpoint(file: Path, tensors: State, facts: dict[str, JsonValue]) -> None:
    """Replace ``file`` with these tensors and facts; a crash leaves the old file or the new one."""
    part = file.with_suffix(".part")
    # safetensors refuses tensors that share memory, as those of a loss and its similarity do.
    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(apart, part, {"facts": json.dumps(facts)})
    with part.open("rb+") as handle:
        os.fsync(handle.fileno())
    part.replace(file)


def read_checkpoint(file: Path) -> tuple[State, dict[str, JsonValue]]:
    """Return the tensors and facts that ``write_checkpoint`` wrote.

    Raises:
        CheckpointError: the file is not a checkpoint.
    """
    try:
        with safe_open(file, framework="pt") as content:
            facts = json.loads(content.metadata()["facts"])
            return {name: content.get_tensor(name) for name in content.keys()}, facts  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is no checkpoint: {error}") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> State:
    """Return the optimizer's state under flat names: ``<parameter number>.<field>``."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{field}": value for number, fields in state.items() for field, value in fields.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: State) -> None:
    """Load the state that ``optimizer_tensors`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, field = name.split(".", 1)
        state.setdefault(int(number), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
