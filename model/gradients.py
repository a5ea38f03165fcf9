"""Oriented gradients as a network: fixed layers without training, then a learned linear embedding.

For each blur, the image's slopes in several directions are rectified and averaged over overlapping square cells. Each
cell's vector over the directions is normalised to length 1, and the square root taken. These are histograms of oriented
gradients (Dalal and Triggs 2005), computed by convolutions as in DAISY (Tola, Lepetit and Fua 2010). With the root,
Euclidean distance is the Hellinger distance (Arandjelovic and Zisserman 2012).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.manifest import GradientsSpec, PreprocessSpec

_FLOOR = 0.05
"""Added to the length of a cell's slopes, in grey levels (0 to 1) a pixel, to suppress noise on a plain wall."""

_CELL_SD = 1 / 2
"""Standard deviation of a cell's Gaussian window, in cell sides; the window is three cell sides wide."""


class GradientsNet(nn.Module):
    """Oriented gradients in cells, and a linear embedding of them; only the embedding has weights.

    With ``spec.mirror`` an image and its mirror image have the same embedding: the maps of both are averaged, and the
    redundant half is dropped. The mirror image's maps need no second pass.

    Raises:
        ValueError: the input's side is not a multiple of the cell's.
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
        """Return the output of the fixed layers, shape (n, blurs, directions, cells, cells); mirror halves the last."""
        reach = self.slopes.shape[-1] // 2
        slopes = F.relu(F.conv2d(F.pad(images, (reach,) * 4, mode="replicate"), self.slopes))
        around = F.pad(slopes, (self.spec.cell,) * 4, mode="replicate")
        cells = F.conv2d(around, self.window, stride=self.spec.cell, groups=self._channels)
        maps = cells.view(-1, len(self.spec.blurs), self.spec.directions, *cells.shape[2:])
        maps = (maps / (maps.norm(dim=2, keepdim=True) + _FLOOR)).sqrt()
        return _folded(maps) if self.spec.mirror else maps


def slope_kernels(blurs: tuple[float, ...], directions: int) -> Tensor:
    """Return derivatives of Gaussians, shape (blurs * directions, 1, k, k); a slope of 1 a pixel along one gives 1.

    ``blurs`` are standard deviations in pixels. The first direction points right; the angle increases downwards.
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
    """Average maps (n, blurs, directions, h, w) with those of the mirror image, and return the left half."""
    directions, width = maps.shape[2], maps.shape[4]
    # mirroring swaps left and right slopes; up and down stay
    mirrored = torch.stack([maps[:, :, (directions // 2 - i) % directions] for i in range(directions)], 2).flip(4)
    return ((maps + mirrored) / 2)[..., : (width + 1) // 2]
