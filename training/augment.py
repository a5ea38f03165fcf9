"""Random distortions of whole batches, as tensor operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from training.recipe import AugmentPart

_ELASTIC_GRID = 5


class Augment:
    """Distorts images of shape (n, channels, side, side) in [0, 1], background 0; each image differently."""

    def __init__(self, part: AugmentPart) -> None:
        self.part = part

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return distorted images of the same shape; all chance comes from ``generator`` (on the CPU)."""
        n, _, side, _ = images.shape
        grid = F.affine_grid(self._affine(n, generator), [n, 1, side, side], align_corners=False)
        if self.part.elastic:
            grid = grid + self._elastic(n, side, generator)
        spared = torch.rand(n, generator=generator) >= self.part.probability
        powers = torch.exp(self._uniform(n, self.part.gamma, generator)).view(n, 1, 1, 1)
        distorted = F.grid_sample(images, grid.to(images), align_corners=False)
        distorted = distorted.clamp(1e-4, 1) ** powers.to(images)
        return torch.where(spared.view(n, 1, 1, 1).to(images.device), images, distorted)

    def _affine(self, n: int, generator: torch.Generator) -> Tensor:
        """Return the inverse maps, shape (n, 2, 3), in the [-1, 1] coordinates of ``affine_grid``."""
        part = self.part
        angle = self._uniform(n, math.radians(part.rotation), generator)
        scale_x, scale_y = (1 + self._uniform(n, part.scale, generator) for _ in range(2))
        shear_x, shear_y = (self._uniform(n, part.shear / 2, generator) for _ in range(2))
        shift = torch.stack([self._uniform(n, 2 * part.translation, generator) for _ in range(2)], 1)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([cos, -sin, sin, cos], 1).view(n, 2, 2)
        slant = torch.stack([torch.ones(n), shear_x, shear_y, torch.ones(n)], 1).view(n, 2, 2)
        stretch = torch.diag_embed(torch.stack([1 / scale_x, 1 / scale_y], 1))
        return torch.cat([turn @ slant @ stretch, shift.unsqueeze(2)], 2)

    def _elastic(self, n: int, side: int, generator: torch.Generator) -> Tensor:
        """Return smooth shifts of shape (n, side, side, 2)."""
        coarse = torch.randn(n, 2, _ELASTIC_GRID, _ELASTIC_GRID, generator=generator) * (2 * self.part.elastic)
        return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)

    @staticmethod
    def _uniform(n: int, reach: float, generator: torch.Generator) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * reach
