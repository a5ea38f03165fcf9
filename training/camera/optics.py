"""The effects of light, lens, sensor and file format on a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.camera.chance import Chance
from training.camera.geometry import SIDE, View, picture_axes
from training.camera.part import CameraPart

_BLOCK = 8
_BLURS, _COARSE = 24, 16
_GRAINS = 48
_LEAST_ACROSS = 14
"""Least size of a symbol in pixels after its resolution is reduced."""
_LOSSLESS = 0.02
"""Factor on JPEG's table without visible effect."""
_JPEG_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""JPEG's luminance quantisation table at quality 50 (ITU-T T.81, annex K)."""


@dataclass(frozen=True)
class Lens:
    """Tables for ``expose``: linear maps of rows and columns, JPEG's quantisation steps, and grain.

    ``blurs`` (levels, size, size) blur or coarsen along one axis, then apply the DCT in blocks of 8. ``back`` (size,
    size) is the inverse DCT, ``steps`` (size, size) JPEG's table. ``grain`` (m, 3, size, size) is noise in the DCT
    domain with standard deviation 1.
    """

    blurs: Tensor
    back: Tensor
    steps: Tensor
    grain: Tensor

    def to(self, device: torch.device) -> Lens:
        """Return the tables on ``device``."""
        return Lens(*(table.to(device) for table in (self.blurs, self.back, self.steps, self.grain)))


def make_lens(part: CameraPart, size: int) -> Lens:
    """Compute the tables for pictures of ``size`` pixels a side, a multiple of 8."""
    cosines = torch.kron(torch.eye(size // _BLOCK), _cosines())
    sharp = torch.eye(size)
    gaussian = [_gaussian(size, part.blur * size / SIDE * level / _BLURS) for level in range(1, _BLURS + 1)]
    coarse = [_coarse(size, 1 + (part.coarse - 1) * level / _COARSE) for level in range(1, _COARSE + 1)]
    blurs = cosines @ torch.stack([sharp, *gaussian, *coarse])
    steps = torch.tensor(_JPEG_TABLE).float().repeat(size // _BLOCK, size // _BLOCK) / 255
    return Lens(blurs.contiguous(), cosines.T.contiguous(), steps, _make_grain(size))


def _cosines() -> Tensor:
    """Return the orthonormal discrete cosine transform of 8 values, shape (8, 8)."""
    k, i = torch.arange(_BLOCK)[:, None], torch.arange(_BLOCK)[None]
    table = torch.cos(math.pi * (2 * i + 1) * k / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    table[0] /= math.sqrt(2)
    return table


def _gaussian(size: int, deviation: float) -> Tensor:
    """Return a Gaussian blur along one axis, shape (size, size), with the edge pixels repeated beyond the edge."""
    if deviation < 0.05:
        return torch.eye(size)
    reach = math.ceil(4 * deviation)
    places = torch.arange(-reach, size + reach)
    weights = torch.exp(-((torch.arange(size)[:, None] - places) ** 2) / (2 * deviation**2))
    return _folded(weights / weights.sum(1, keepdim=True), places, size)


def _folded(weights: Tensor, places: Tensor, size: int) -> Tensor:
    """Return weights (rows, size) from those at ``places``; places beyond the edges are clamped to them."""
    return torch.zeros(len(weights), size).index_add_(1, places.clamp(0, size - 1), weights)


def _coarse(size: int, factor: float) -> Tensor:
    """Return the map that downsamples an axis by ``factor``, antialiased, and upsamples it, shape (size, size)."""
    few = max(2, round(size / factor))
    identity = torch.eye(size)[None, None]
    down = torch.nn.functional.interpolate(identity, size=(few, size), mode="bilinear", antialias=True)
    return torch.nn.functional.interpolate(down, size=(size, size), mode="bilinear")[0, 0]


def _make_grain(size: int) -> Tensor:
    """Return fixed noise in the DCT domain: a third grey, a third coloured, a third of lower frequencies."""
    generator = torch.Generator().manual_seed(_BLOCK)
    grain = torch.randn(_GRAINS, 3, size, size, generator=generator)
    third = _GRAINS // 3
    grain[:third] = grain[:third, :1]
    order = torch.arange(size) % _BLOCK
    falling = 2.0 ** -((order[:, None] + order[None]) / 2.0)
    grain[2 * third :] *= falling / falling.square().mean().sqrt()
    return grain


def expose(pictures: Tensor, view: View, lens: Lens, chance: Chance, part: CameraPart) -> Tensor:
    """Return camera pictures of scenes (n, 3, size, size) in about [0, 1]; changes ``pictures`` in place."""
    size = pictures.shape[3]
    light, gain, haze = _light(size, view, chance, part)
    balance = torch.exp(torch.stack([chance.either_side(part.white) for _ in range(3)], 1))
    tone = chance.either_side(min(0.5 * part.exposure, 0.9))
    pictures.clamp_(0, 1)
    pictures = pictures * (1 + _each(tone)) - _each(tone) * pictures.square()
    pictures.mul_(light).mul_((balance * gain[:, None])[:, :, None, None]).add_(haze).clamp_(0, 1)
    # Blur, noise and compression: into the DCT domain, quantise, and back.
    rows, columns = _blur_levels(view, size, chance, part)
    seen = torch.matmul(torch.matmul(lens.blurs[rows][:, None], pictures), lens.blurs[columns][:, None].transpose(2, 3))
    noise = chance.up_to(part.noise) * chance.unit() * (0.25 + 0.75 * gain.clamp(max=1))
    seen.addcmul_(lens.grain[(chance.unit() * len(lens.grain)).long()], _each(noise))
    quality = torch.where(chance.unit() < 0.6, chance.up_to(part.jpeg) * chance.unit() * view.fill, 0.0)
    steps = lens.steps * _each(quality.clamp(min=_LOSSLESS))
    seen.div_(steps).round_().mul_(steps)
    picture = torch.matmul(torch.matmul(lens.back, seen), lens.back.T).clamp_(0, 1)
    levels = _each(torch.where(chance.happens(part.posterise), chance.between(5, 12).floor(), 255.0))
    return picture.mul_(levels).round_().div_(levels)


def _light(size: int, view: View, chance: Chance, part: CameraPart) -> tuple[Tensor, Tensor, Tensor]:
    """Return light (n, 1, size, size), exposure (n,), and the added haze and glare (n, 1, size, size)."""
    x, y = picture_axes(size, view.u.device)
    slopes = [_each(chance.either_side(part.light)) for _ in range(2)]
    light = torch.exp(slopes[0] * x + slopes[1] * y - 0.6 * (slopes[0].abs() + slopes[1].abs()))
    angle = chance.between(-math.pi, math.pi)
    across = _each(angle.cos()) * x + _each(angle.sin()) * y - _each(chance.between(-0.6, 0.6))
    depth = chance.between(0.25, 0.6) * chance.happens(part.shadow)
    light = light * (1 - _each(depth) * torch.sigmoid(across * _each(chance.between(2, 5).exp())))
    vignette = chance.up_to(0.35 * part.light) * (chance.unit() < 0.4)
    light = light * (1 - _each(vignette) * (x.square() + y.square()))
    low = chance.unit() < 0.6
    exponent = chance.up_to(part.exposure)
    gain = torch.exp(torch.where(low, -(exponent**1.5), 0.25 * exponent))
    spot = (x - _each(chance.between(-1, 1))).square() + (y - _each(chance.between(-1, 1))).square()
    glare = chance.between(0.2, 0.8) * chance.happens(part.glare)
    haze = chance.up_to(0.25 * part.exposure) * (chance.unit() < 0.3)
    added = _each(glare) * torch.exp(-spot * _each(chance.between(2, 20))) + _each(haze * gain)
    return light * _each(1 - haze), gain, added


def _blur_levels(view: View, size: int, chance: Chance, part: CameraPart) -> tuple[Tensor, Tensor]:
    """Return the indices into the lens's maps for rows and columns, (n,) each; small symbols are blurred less."""
    blurred = chance.unit() < 0.7
    amount = chance.up_to(1) * chance.unit().sqrt() * (0.15 + 0.85 * view.fill)
    moved = chance.unit()
    weak = torch.where(chance.unit() < 0.3, chance.unit(), 1.0)
    levels = [amount * torch.where(side, weak, 1.0) for side in (moved < 0.5, moved >= 0.5)]
    gaussian = [torch.where(blurred, (level * (_BLURS + 1)).floor().clamp(max=_BLURS), 0.0) for level in levels]
    most = (view.fill * size / _LEAST_ACROSS).clamp(1, max(part.coarse, 1))
    reach = (most - 1) / max(part.coarse - 1, 1e-6) * _COARSE
    coarse = (chance.up_to(1) * (reach + 1)).floor().clamp(max=_COARSE)
    chosen = (chance.unit() < 0.3) & (coarse > 0)
    rows, columns = (torch.where(chosen, _BLURS + coarse, level).long() for level in gaussian)
    return rows, columns


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
