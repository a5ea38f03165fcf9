"""Oriented gradients as a network: fixed layers, which need no training, and a learned linear embedding.

For each blur, the image's slope in several directions, negative slopes cut off, is averaged over square cells that
overlap; what a cell has of each direction is divided by its length and its root taken. Histograms of oriented gradients
(Dalal and Triggs 2005) in the form of convolutions that DAISY gave them (Tola, Lepetit and Fua 2010); the root makes
Euclidean comparison of them Hellinger's (Arandjelovic and Zisserman 2012).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from model.manifest import GradientsSpec, PreprocessSpec

_FLOOR = 0.05
"""Added to the length of a cell's slopes, in grey levels a pixel (0 to 1): noise on a plain wall counts little."""

_CELL_SD = 1 / 2
"""Standard deviation of a cell's Gaussian window, in sides of the cell; the window is three sides wide."""


class GradientsNet(nn.Module):
    """Oriented gradients in cells, and a linear embedding of them; the layers before it hold no weights.

    With ``spec.mirror`` an image and its mirror image have the same embedding: the maps of both are averaged, and the
    half that then repeats the other is left out. The maps of the mirror image need no second pass.

    Raises:
        ValueError: cells do not divide the input.
    """

    slopes: Tensor
    window: Tensor

    def __init__(self, spec: GradientsSpec, preprocess: PreprocessSpec) -> None:
        super().__init__()
        if preprocess.size % spec.cell:
            raise ValueError(f"cells of {spec.cell} pixels do not divide {preprocess.size} pixels")
        self.spec = spec
        kernels = slope_kernels(spec.blurs, spec.directions).repeat(1, preprocess.channels, 1, 1)
        self.register_buffer("slopes", kernels / preprocess.channels, persistent=False)
        self._channels = len(kernels)
        self.register_buffer("window", _window(spec.cell).repeat(self._channels, 1, 1, 1), persistent=False)
        self.embed = nn.Linear(spec.features(preprocess.size), spec.dim)
        nn.init.orthogonal_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images of shape (n, channels, size, size) as (n, dim)."""
        embedding: Tensor = self.embed(self.maps(images).flatten(1))
        return embedding

    def maps(self, images: Tensor) -> Tensor:
        """Return the fixed part's answer, shape (n, blurs, directions, cells, cells or with mirror half of them)."""
        reach = self.slopes.shape[-1] // 2
        slopes = F.relu(F.conv2d(F.pad(images, (reach,) * 4, mode="replicate"), self.slopes))
        around = F.pad(slopes, (self.spec.cell,) * 4, mode="replicate")
        cells = F.conv2d(around, self.window, stride=self.spec.cell, groups=self._channels)
        maps = cells.view(-1, len(self.spec.blurs), self.spec.directions, *cells.shape[2:])
        maps = (maps / (maps.norm(dim=2, keepdim=True) + _FLOOR)).sqrt()
        return _folded(maps) if self.spec.mirror else maps


def slope_kernels(blurs: tuple[float, ...], directions: int) -> Tensor:
    """Return derivatives of Gaussians, shape (blurs * directions, 1, k, k); a slope of 1 a pixel along one answers 1.

    ``blurs`` are standard deviations in pixels; the first direction is to the right, the second turns downwards.
    """
    reach = max(1, math.ceil(3 * max(blurs)))
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    angles = torch.arange(directions, dtype=torch.float64) * (2 * math.pi / directions)
    kernels = []
    for blur in blurs:
        smooth = torch.exp(-(at**2) / (2 * blur**2))
        derivative = at * smooth
        across = torch.outer(smooth / smooth.sum(), derivative / (at * derivative).sum())
        kernels.append(angles.cos()[:, None, None] * across + angles.sin()[:, None, None] * across.T)
    return torch.cat(kernels).float()[:, None]


def _window(cell: int) -> Tensor:
    """Return the Gaussian window of a cell, shape (1, 1, 3 * cell, 3 * cell), with sum 1."""
    at = torch.arange(3 * cell, dtype=torch.float64) - (3 * cell - 1) / 2
    bell = torch.exp(-(at**2) / (2 * (_CELL_SD * cell) ** 2))
    return torch.outer(bell / bell.sum(), bell / bell.sum()).float()[None, None]


def _folded(maps: Tensor) -> Tensor:
    """Return the left half of the mean of maps (n, blurs, directions, h, w) and those of the mirror image."""
    directions, width = maps.shape[2], maps.shape[4]
    # a slope to the right is one to the left in the mirror; up and down stay
    mirrored = torch.stack([maps[:, :, (directions // 2 - i) % directions] for i in range(directions)], 2).flip(4)
    return ((maps + mirrored) / 2)[..., : (width + 1) // 2]
