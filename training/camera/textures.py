"""Procedural patterns for grounds: ramps, clouds, grain, stripes, checks, dots and wood."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

_SEED = 20
_KINDS = 8


@cache
def make_textures(count: int, side: int) -> Tensor:
    """Return fixed grey patterns (count, 3, side, side) as bytes. The tensor is cached; do not modify it."""
    generator = torch.Generator().manual_seed(_SEED)
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    patterns = [_pattern(index % _KINDS, x, y, generator) for index in range(count)]
    grey = torch.stack([_whole_range(pattern) for pattern in patterns])
    return (grey * 255).round().byte()[:, None].expand(-1, 3, -1, -1).contiguous()


def _pattern(kind: int, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    size, phase, sharp, share = torch.rand(4, generator=generator).tolist()
    turns = 2 * math.pi * (2 + 10 * size**2)
    if kind == 0:  # a linear or radial ramp
        return x if share < 0.6 else (x.square() + y.square()).sqrt()
    if kind == 1:  # stripes
        return torch.tanh((1 + 8 * sharp) * (torch.sin(turns * x + phase) + share - 0.5))
    if kind == 2:  # ruled or squared paper
        lines = torch.cos(turns * x + phase)
        lines = lines if share < 0.4 else torch.maximum(lines, torch.cos(turns * y))
        return -torch.sigmoid(14 * (lines - 0.85))
    if kind == 3:  # checks, dots
        waves = torch.sin(turns * x) * torch.sin(turns * y)
        return torch.tanh((1 + 6 * sharp) * (waves - 0.4 * share))
    if kind == 4:  # wood, brushed metal
        return _clouds(x, 0.6 + size, generator, stretched=8 + 20 * share)
    return _clouds(x, 0.4 + 1.6 * size, generator, stretched=1)


def _clouds(like: Tensor, exponent: float, generator: torch.Generator, stretched: float) -> Tensor:
    """Return noise with amplitude proportional to frequency ** -exponent."""
    spectrum = torch.fft.rfft2(torch.randn(like.shape, generator=generator))
    rows = torch.fft.fftfreq(like.shape[0])[:, None] * stretched
    columns = torch.fft.rfftfreq(like.shape[1])[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / like.shape[0])
    noise: Tensor = torch.fft.irfft2(spectrum / frequency**exponent, s=like.shape)
    return noise


def _whole_range(pattern: Tensor) -> Tensor:
    low, high = torch.quantile(pattern, 0.01), torch.quantile(pattern, 0.99)
    return ((pattern - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
