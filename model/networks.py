"""The networks. Each maps images of shape (n, channels, size, size) to embeddings of shape (n, dim)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.focus import FocusNet
from model.gradients import GradientsNet
from model.manifest import (
    ConvSpec,
    EnsembleSpec,
    FocusSpec,
    GradientsSpec,
    KochSpec,
    NetworkSpec,
    PreprocessSpec,
    ResidualSpec,
)


class KochNet(nn.Module):
    """The twin of Koch, Zemel and Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition" (2015).

    Input (n, 1, 105, 105); output (n, 4096) in (0, 1). With the 4,096 weights and the bias of ``WeightedL1`` it has
    the paper's 38,951,745 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv_relu(1, 64, 10), nn.MaxPool2d(2),
            *_conv_relu(64, 128, 7), nn.MaxPool2d(2),
            *_conv_relu(128, 128, 4), nn.MaxPool2d(2),
            *_conv_relu(128, 256, 4),
        )  # fmt: skip
        self.embed = nn.Linear(256 * 6 * 6, 4096)
        self.apply(_koch_initial_values)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images of shape (n, 1, 105, 105) as (n, 4096)."""
        return torch.sigmoid(self.embed(self.features(images).flatten(1)))


def _conv_relu(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel), nn.ReLU(inplace=True)


def _koch_initial_values(module: nn.Module) -> None:
    """Draw the paper's initial values: conv weights N(0, .01), FC weights N(0, .2), biases N(.5, .01)."""
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.normal_(module.weight, 0.0, 0.01 if isinstance(module, nn.Conv2d) else 0.2)
        nn.init.normal_(module.bias, 0.5, 0.01)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a 1 x 1 shortcut, then max pooling by 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h // 2, w // 2)."""
        inner = F.relu(self.norm1(self.conv1(maps)), inplace=True)
        outer = self.norm2(self.conv2(inner)) + self.norm3(self.shortcut(maps))
        return F.max_pool2d(F.relu(outer, inplace=True), 2)


class ResidualNet(nn.Module):
    """A strided stem, residual blocks, and a linear embedding of the last feature map.

    The stem halves the resolution first, because full-size feature maps take most of the time on a CPU.
    """

    def __init__(self, spec: ResidualSpec, preprocess: PreprocessSpec) -> None:
        super().__init__()
        self.stem = nn.Conv2d(preprocess.channels, spec.stem, 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(spec.stem)
        widths = (spec.stem, *spec.widths)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(widths)))
        side = (preprocess.size + 1) // 2 // 2 ** len(spec.widths)
        self.embed = nn.Linear(widths[-1] * side * side, spec.dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images of shape (n, channels, size, size) as (n, dim)."""
        maps = F.relu(self.norm(self.stem(images)), inplace=True)
        embedding: Tensor = self.embed(self.blocks(maps).flatten(1))
        return embedding


class ConvNet(nn.Module):
    """Blocks of 3 x 3 convolution, batch norm, ReLU and pooling (conv4 of the few-shot literature)."""

    def __init__(self, spec: ConvSpec, preprocess: PreprocessSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(spec.depth):
            inputs = spec.width if index else preprocess.channels
            layers += [
                nn.Conv2d(inputs, spec.width, 3, padding=1, bias=False),
                nn.BatchNorm2d(spec.width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        flat = spec.width * (preprocess.size >> spec.depth) ** 2
        self.embed: nn.Module = nn.Identity() if spec.dim is None else nn.Linear(flat, spec.dim)
        self.dim = spec.dim or flat

    def forward(self, images: Tensor) -> Tensor:
        """Embed images of shape (n, channels, size, size) as (n, dim)."""
        embedding: Tensor = self.embed(self.features(images).flatten(1))
        return embedding


class Ensemble(nn.Module):
    """Networks in parallel: their unit embeddings, concatenated and scaled to length 1.

    The cosine of two concatenated embeddings is the mean of the members' cosines.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images of shape (n, channels, size, size) as (n, sum of the members' dims)."""
        joined = torch.cat([F.normalize(member(images), dim=1) for member in self.members], dim=1)
        return joined / math.sqrt(len(self.members))


def build_network(spec: NetworkSpec, preprocess: PreprocessSpec) -> nn.Module:
    """Return the network that ``spec`` describes, with initial weights.

    Raises:
        ValueError: the network does not accept the preprocessing's output.
    """
    if isinstance(spec, EnsembleSpec):
        return Ensemble([build_network(member, preprocess) for member in spec.members])
    if isinstance(spec, KochSpec):
        if (preprocess.size, preprocess.channels) != (105, 1):
            raise ValueError(
                f"koch takes 105 x 105 grey images, not {preprocess.size} with {preprocess.channels} channels"
            )
        return KochNet()
    if isinstance(spec, GradientsSpec):
        return GradientsNet(spec, preprocess)
    if isinstance(spec, FocusSpec):
        return FocusNet(spec, preprocess)
    halvings = len(spec.widths) + 1 if isinstance(spec, ResidualSpec) else spec.depth
    if preprocess.size < 2**halvings:
        raise ValueError(f"{halvings} halvings need at least {2**halvings} pixels, not {preprocess.size}")
    return ResidualNet(spec, preprocess) if isinstance(spec, ResidualSpec) else ConvNet(spec, preprocess)


def parameter_count(*modules: nn.Module) -> int:
    """Return the total number of parameters of the modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
