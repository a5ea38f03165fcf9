"""Where a training run computes: device, number format, and the processes that share a batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, distributed, nn

Precision = Literal["float32", "bfloat16"]
CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Machine:
    """A device, the number format of forward and backward passes on it, and this process's place among others.

    ``bfloat16`` is torch's automatic mixed precision; weights, losses and the optimizer stay in float32. Each of the
    ``world`` processes takes a share of each batch's classes; this one is number ``rank``.
    """

    device: torch.device = CPU
    precision: Precision = "float32"
    rank: int = 0
    world: int = 1

    def autocast(self) -> torch.autocast:
        """Return the autocast context for the network."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def share(self, n: int) -> slice:
        """Return this process's slice of ``n`` items.

        Raises:
            ValueError: the items can't be divided evenly.
        """
        if n % self.world:
            raise ValueError(f"{n} classes cannot be divided among {self.world} processes; change sampler.classes")
        part = n // self.world
        return slice(self.rank * part, (self.rank + 1) * part)

    def gather(self, values: Tensor) -> Tensor:
        """Return the rows of all processes, in rank order; gradients flow back to the process that owns the row."""
        if self.world == 1:
            return values
        gathered: Tensor = _Gather.apply(values)  # type: ignore[no-untyped-call]
        return gathered

    def agree(self, value: float | None) -> float:
        """Return the value of the first process; the others pass None."""
        if self.world == 1:
            return float(value or 0)
        said = torch.tensor([value or 0.0], dtype=torch.float64, device=self.device)
        distributed.broadcast(said, 0)
        return float(said)


@dataclass(frozen=True)
class Team:
    """Processes to start together: their number, and the device, precision and threads of each."""

    workers: int
    device: str
    precision: Precision
    threads: int


@contextmanager
def processes(device: torch.device, precision: Precision) -> Iterator[Machine]:
    """Join the process group of ``torchrun``, if it started this process, and leave it at the end.

    A process group that is already initialised is used as it is, with the given device.
    """
    if distributed.is_initialized():
        yield Machine(device, precision, distributed.get_rank(), distributed.get_world_size())
        return
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Machine(device, precision)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Machine(device, precision, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes; torch's ``SyncBatchNorm`` needs GPUs."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps of shape (n, channels, h, w); n must be the same in every process."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(images)
        world = distributed.get_world_size()
        values = images.float()
        mean = _sum(values.mean((0, 2, 3))) / world
        around = values - mean[:, None, None]
        variance = _sum(around.square().mean((0, 2, 3))) / world
        count = world * values.numel() / values.shape[1]
        with torch.no_grad():
            momentum = self.momentum or 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scaled = around * torch.rsqrt(variance + self.eps)[:, None, None]
        normal: Tensor = scaled * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(images.dtype)


class _Gather(torch.autograd.Function):
    """All-gather of rows; a row's gradient is the sum of its gradients in all processes."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = _total(gradient)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


class _Sum(torch.autograd.Function):
    """All-reduce of values in the forward pass and of gradients in the backward pass."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        return _total(values)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def _total(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def share_batch_norm(network: nn.Module) -> None:
    """Make every batch norm of ``network`` use the images of all processes; weights and names do not change."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
