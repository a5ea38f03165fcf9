"""Random distortions of whole batches, as tensor operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual alias

from training.recipe import AugmentPart

_ELASTIC_GRID = 5
_EVERYTHING = slice(None)


class Augment:
    """Distorts images of shape (n, channels, side, side) in [0, 1], background 0; each image differently."""

    def __init__(self, part: AugmentPart) -> None:
        self.part = part

    def __call__(self, images: Tensor, generator: torch.Generator, share: slice = _EVERYTHING) -> Tensor:
        """Return the distorted images of ``share``; all randomness comes from ``generator`` (on the CPU).

        Random numbers are drawn for the whole batch, so that the shares of several processes add up to the batch of a
        single one.
        """
        part = self.part
        n, _, side, _ = images.shape
        maps = self._affine(n, generator)
        bends = self._elastic_shifts(n, generator) if part.elastic else None
        spared = torch.rand(n, generator=generator) >= part.probability
        powers = torch.exp(self._uniform(n, part.gamma, generator))
        shading = self._shading(n, side, generator)
        boxes = self._boxes(n, side, generator) if part.erase else None
        growth = self._uniform(n, part.bold * side, generator).clamp(min=0) if part.bold else None
        images = images[share]
        grid = F.affine_grid(maps[share], [len(images), 1, side, side], align_corners=False)
        if bends is not None:
            grid = grid + _smooth(bends[share], side)
        padding = "zeros" if part.border == "zeros" else "border"
        distorted = F.grid_sample(images, grid.to(images), align_corners=False, padding_mode=padding)
        distorted = distorted.clamp(1e-4, 1) ** _per_image(powers[share], images)
        if growth is not None:
            distorted = _grown(distorted, growth[share])
        if shading is not None:
            distorted = _relight(distorted, *(values[share] for values in shading))
        if boxes is not None:
            distorted = torch.where(boxes[share].to(images.device), distorted.mean((1, 2, 3), keepdim=True), distorted)
        return torch.where(_per_image(spared[share], images).bool(), images, distorted)

    def _affine(self, n: int, generator: torch.Generator) -> Tensor:
        """Return the inverse maps, shape (n, 2, 3), in the [-1, 1] coordinates of ``affine_grid``."""
        part = self.part
        angle = self._uniform(n, math.radians(part.rotation), generator)
        scale_x, scale_y = (1 + self._uniform(n, part.scale, generator) for _ in range(2))
        shear_x, shear_y = (self._uniform(n, part.shear / 2, generator) for _ in range(2))
        shift = torch.stack([self._uniform(n, 2 * part.translation, generator) for _ in range(2)], 1)
        if part.each < 1:
            turned, scaled, sheared, shifted = torch.rand(4, n, generator=generator) < part.each
            angle, shift = angle * turned, shift * shifted[:, None]
            scale_x, scale_y = (torch.where(scaled, scale, 1.0) for scale in (scale_x, scale_y))
            shear_x, shear_y = shear_x * sheared, shear_y * sheared
        if part.mirror:
            scale_x = torch.where(torch.rand(n, generator=generator) < 0.5, -scale_x, scale_x)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([cos, -sin, sin, cos], 1).view(n, 2, 2)
        slant = torch.stack([torch.ones(n), shear_x, shear_y, torch.ones(n)], 1).view(n, 2, 2)
        stretch = torch.diag_embed(torch.stack([1 / scale_x, 1 / scale_y], 1))
        return torch.cat([turn @ slant @ stretch, shift.unsqueeze(2)], 2)

    def _elastic_shifts(self, n: int, generator: torch.Generator) -> Tensor:
        """Return the shifts of a coarse grid, shape (n, 2, 5, 5)."""
        return torch.randn(n, 2, _ELASTIC_GRID, _ELASTIC_GRID, generator=generator) * (2 * self.part.elastic)

    def _shading(self, n: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
        """Return factors on contrast, shape (n,), and on light, shape (n, 1, side, side)."""
        part = self.part
        if not part.contrast and not part.light:
            return None
        contrast = torch.exp(self._uniform(n, part.contrast, generator))
        slopes = self._uniform(2 * n, part.light, generator).view(n, 2, 1, 1)
        ramp = torch.linspace(-1, 1, side)
        light = torch.exp(slopes[:, :1] * ramp + slopes[:, 1:] * ramp[:, None])
        return contrast, light

    def _boxes(self, n: int, side: int, generator: torch.Generator) -> Tensor:
        """Return masks (n, 1, side, side) of a box at a random place in each image."""
        reach = self.part.erase * torch.rand(n, 2, 1, generator=generator) / 2
        centre = torch.rand(n, 2, 1, generator=generator)
        inside = ((torch.arange(side) + 0.5) / side - centre).abs() < reach
        return (inside[:, 0, :, None] & inside[:, 1, None, :]).unsqueeze(1)

    @staticmethod
    def _uniform(n: int, reach: float, generator: torch.Generator) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * reach


def _smooth(shifts: Tensor, side: int) -> Tensor:
    """Return smooth shifts of shape (n, side, side, 2)."""
    return F.interpolate(shifts, size=(side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def _grown(images: Tensor, pixels: Tensor) -> Tensor:
    """Thicken the ink of each image by ``pixels`` (n,), interpolating between dilations."""
    growth = _per_image(pixels, images)
    for _ in range(math.ceil(float(pixels.max()))):
        images = torch.lerp(images, F.max_pool2d(images, 3, stride=1, padding=1), growth.clamp(max=1))
        growth = (growth - 1).clamp(min=0)
    return images


def _relight(images: Tensor, contrast: Tensor, light: Tensor) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((mean + (images - mean) * _per_image(contrast, images)) * light.to(images)).clamp(0, 1)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1).to(images)
