"""A network that first locates the symbol: glance, window, squeeze-and-excitation blocks, attention pooling."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.manifest import FocusSpec, PreprocessSpec

GLANCE: Final = 24
"""Side, in pixels, of the downsampled copy from which the window is placed."""
_CLOSEST: Final = 0.3
"""Least side of the window, as a share of the picture's."""
_SQUEEZE: Final = 8
_LEAST_SPREAD: Final = 0.02


class Standardise(nn.Module):
    """Normalise each picture to mean 0 and deviation 1 over all channels, which removes brightness and contrast."""

    def forward(self, images: Tensor) -> Tensor:
        """Standardise images of shape (n, channels, size, size)."""
        around = images - images.mean((1, 2, 3), keepdim=True)
        spread = around.square().mean((1, 2, 3), keepdim=True).sqrt()
        return around / (spread + _LEAST_SPREAD)


class Window(nn.Module):
    """A spatial transformer of shift and scale (Jaderberg et al. 2015) that crops the picture to its symbol.

    It samples with two matrix products and a filter that widens when downscaling; ``grid_sample`` would alias and is
    slow on CPUs.
    """

    pixels: Tensor
    places: Tensor

    def __init__(self, channels: int, size: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.shrink = size // GLANCE
        self.glance = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, stride=1, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.place = nn.Linear(32 * (GLANCE // 4) ** 2, 3)
        nn.init.zeros_(self.place.weight)
        with torch.no_grad():
            self.place.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))  # start with nearly the whole picture
        self.register_buffer("pixels", _centres(size), persistent=False)
        self.register_buffer("places", _centres(side), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return windows (n, channels, side, side) of images (n, channels, size, size)."""
        small = F.avg_pool2d(images, self.shrink)
        scale, across, down = self.place(self.glance(small).flatten(1)).float().split(1, 1)
        share = _CLOSEST + (1 - _CLOSEST) * torch.sigmoid(scale)
        rows, columns = (self._weights(share, (1 - share) * torch.tanh(shift)) for shift in (down, across))
        window: Tensor = rows[:, None] @ images @ columns[:, None].transpose(2, 3)
        return window

    def _weights(self, share: Tensor, centre: Tensor) -> Tensor:
        """Return each sample's weights (n, side, size) along an axis, for windows of ``share`` (n, 1) at ``centre``."""
        size = self.pixels.shape[0]
        wanted = centre + share * self.places
        reach = torch.clamp(share * (size / self.side), min=1.0) * (2 / size)
        weights = F.relu(1 - (wanted[:, :, None] - self.pixels).abs() / reach[:, :, None])
        return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)


def _centres(count: int) -> Tensor:
    return (torch.arange(count) * 2 + 1) / count - 1


class ExcitedBlock(nn.Module):
    """Two 3 x 3 convolutions, squeeze-and-excitation (Hu et al. 2018) and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.squeeze = nn.Conv2d(outputs, max(8, outputs // _SQUEEZE), 1)
        self.excite = nn.Conv2d(max(8, outputs // _SQUEEZE), outputs, 1)
        self.pool = nn.MaxPool2d(2) if stride == 2 else nn.Identity()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        inner = F.relu(self.norm1(self.conv1(maps)), inplace=True)
        inner = self.norm2(self.conv2(inner))
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(inner.mean((2, 3), keepdim=True)))))
        return F.relu(inner * weight + self.norm3(self.shortcut(self.pool(maps))), inplace=True)


class AttentionPool(nn.Module):
    """Several attention-weighted means over a map's positions; the weights depend on content and position."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, heads, 1)
        self.bias = nn.Parameter(torch.randn(heads, side * side) * 0.5)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, channels, side, side) to (n, heads * channels)."""
        attention = torch.softmax(self.score(maps).flatten(2) + self.bias, 2)
        return (attention @ maps.flatten(2).transpose(1, 2)).flatten(1)


class FocusNet(nn.Module):
    """Standardise, crop to a window, convolve, pool by attention, embed.

    The stem halves the window's resolution. The first block keeps it, and each further block halves it.

    Raises:
        ValueError: the input's side is not a multiple of 24, or the window is larger than the input or not a multiple
            of 2 ** len(widths).
    """

    def __init__(self, spec: FocusSpec, preprocess: PreprocessSpec) -> None:
        super().__init__()
        halvings = len(spec.widths)
        if preprocess.size % GLANCE:
            raise ValueError(f"the side of the input must be a multiple of {GLANCE} pixels, not {preprocess.size}")
        if spec.window % 2**halvings or spec.window > preprocess.size:
            raise ValueError(
                f"the window must be a multiple of {2**halvings} pixels, for {halvings} halvings, and at most the "
                f"input's {preprocess.size}, not {spec.window}"
            )
        first = spec.widths[0]
        self.standardise = Standardise()
        self.window = Window(preprocess.channels, preprocess.size, spec.window)
        self.stem = nn.Conv2d(preprocess.channels, first, 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(
            ExcitedBlock(first, first, 1), *(ExcitedBlock(a, b, 2) for a, b in pairwise(spec.widths))
        )
        self.pool = AttentionPool(spec.widths[-1], spec.heads, spec.window >> halvings)
        self.embed = nn.Linear(spec.heads * spec.widths[-1], spec.dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images of shape (n, channels, size, size) as (n, dim)."""
        maps = F.relu(self.norm(self.stem(self.window(self.standardise(images)))), inplace=True)
        embedding: Tensor = self.embed(self.pool(self.blocks(maps)))
        return embedding
