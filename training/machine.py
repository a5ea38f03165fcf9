"""What a training run computes on: device and number format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch

Precision = Literal["float32", "bfloat16"]
CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Machine:
    """A device, and the number format of the network's forward and backward pass on it.

    Weights, losses and the optimizer stay in float32: ``bfloat16`` is torch's automatic mixed precision.
    """

    device: torch.device = CPU
    precision: Precision = "float32"

    def autocast(self) -> torch.autocast:
        """Return the context in which the network runs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
