"""Optimizers and their schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import Discriminator, Field, Tag
from torch import nn

from training.objectives import Part


class _Optimizer(Part):
    steps: int = Field(ge=0, description="0, with [whitening] only: it alone is learned, on the first weights.")
    learning_rate: float = Field(gt=0, description="The peak.")
    clip: float = Field(default=5.0, gt=0, description="Largest norm of the gradient.")
    ema: float = Field(default=0, ge=0, lt=1, description="Decay of the averaged weights that are kept; 0: none.")


class AdamWPart(_Optimizer):
    """AdamW (Loshchilov and Hutter 2019) on a one-cycle schedule."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(default=0.0005, ge=0)
    warmup: float = Field(default=0.15, gt=0, lt=1, description="Share of the steps before the peak.")


class LayerPart(Part):
    """The settings of one layer."""

    learning_rate: float | None = Field(default=None, gt=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    l2: float | None = Field(default=None, ge=0)


class SgdPart(_Optimizer):
    """The optimizer of Koch, Zemel and Salakhutdinov (2015).

    SGD with momentum that rises linearly from 0.5 to each layer's final value, and learning rates that decay by the
    factor ``decay`` every epoch. Each layer may have its own rate, momentum and L2 penalty.
    """

    kind: Literal["sgd"] = "sgd"
    epoch: int = Field(gt=0, description="Steps of an epoch.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="The final momentum.")
    momentum_epochs: int = Field(default=50, ge=1, description="Epochs until the final momentum.")
    decay: float = Field(default=0.99, gt=0, le=1, description="Factor on the learning rate with every epoch.")
    l2: float = Field(default=0, ge=0, description="Factor of the sum of squared weights in the loss.")
    layers: dict[str, LayerPart] = Field(
        default_factory=dict, description="By the start of a parameter's name, such as network.embed."
    )

    def layer(self, name: str) -> LayerPart:
        """Return the settings of the parameter ``name``, from the entry with the longest matching prefix."""
        entry = max((key for key in self.layers if name.startswith(key)), key=len, default=None)
        own = LayerPart() if entry is None else self.layers[entry]
        return LayerPart(
            learning_rate=self.learning_rate if own.learning_rate is None else own.learning_rate,
            momentum=self.momentum if own.momentum is None else own.momentum,
            l2=self.l2 if own.l2 is None else own.l2,
        )


def _kind(value: Any) -> str:
    return str(value.get("kind", "adamw") if isinstance(value, dict) else value.kind)


OptimizerPart = Annotated[Annotated[AdamWPart, Tag("adamw")] | Annotated[SgdPart, Tag("sgd")], Discriminator(_kind)]

_FIRST_MOMENTUM = 0.5


def build_optimizer(part: AdamWPart | SgdPart, modules: dict[str, nn.Module]) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters of the named ``modules``; a parameter shared by two counts once.

    Raises:
        ValueError: an entry of ``layers`` matches no parameter.
    """
    parameters = dict(_parameters(modules))
    if isinstance(part, AdamWPart):
        decayed = [parameter for parameter in parameters.values() if parameter.ndim > 1]
        plain = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": part.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=part.learning_rate, betas=(0.9, 0.99))
    for key in part.layers:
        if not any(name.startswith(key) for name in parameters):
            raise ValueError(f"optimizer.layers.{key} is of no parameter; there are {', '.join(parameters)}")
    return torch.optim.SGD([_layer_group(part, name, value) for name, value in parameters.items()], lr=1)


def _parameters(modules: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter not in seen:
                seen.add(parameter)
                yield f"{prefix}.{name}", parameter


def _layer_group(part: SgdPart, name: str, parameter: nn.Parameter) -> dict[str, Any]:
    own = part.layer(name)
    # torch adds weight_decay * w to the gradient; the penalty's gradient is 2 * l2 * w. Biases are not penalised.
    decay = 2 * (own.l2 or 0) if parameter.ndim > 1 else 0.0
    peak = {"peak": own.learning_rate, "final_momentum": own.momentum}
    return {"params": [parameter], "weight_decay": decay, "momentum": _FIRST_MOMENTUM, **peak}


def schedule(optimizer: torch.optim.Optimizer, part: AdamWPart | SgdPart, step: int) -> None:
    """Set the learning rates (and momenta, for SGD) of ``step``."""
    for group in optimizer.param_groups:
        if isinstance(part, AdamWPart):
            group["lr"] = one_cycle(part, step)
        else:
            epoch = step // part.epoch
            group["lr"] = group["peak"] * part.decay**epoch
            risen = min(1.0, epoch / part.momentum_epochs)
            group["momentum"] = _FIRST_MOMENTUM + risen * (group["final_momentum"] - _FIRST_MOMENTUM)


def one_cycle(part: AdamWPart, step: int) -> float:
    """Return the learning rate of ``step``: linear warm-up, then cosine decay to zero."""
    warmup = max(1, round(part.warmup * part.steps))
    if step < warmup:
        return part.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, part.steps - warmup)
    return part.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
