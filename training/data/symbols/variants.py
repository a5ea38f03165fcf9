"""Classes made from a batch's drawings: symbols on plates, like signs, and ink whose colour belongs to the class."""

from __future__ import annotations

import math
from typing import Final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual alias

from training.camera.geometry import CONTENT, SIDE
from training.objectives import Part

_SHAPES: Final = 7
_RIM: Final = 0.6
"""Share of plates with a rim."""
_OTHER_HUE: Final = 0.22
"""Least difference of two rivals' hues, where the full circle is 1."""
_PAINTS: Final = (
    (0.80, 0.08, 0.10), (0.05, 0.25, 0.65), (0.98, 0.80, 0.10), (0.05, 0.05, 0.05), (0.10, 0.50, 0.25),
    (0.95, 0.50, 0.10), (0.45, 0.25, 0.15), (0.55, 0.55, 0.55), (0.50, 0.15, 0.50), (1.00, 1.00, 1.00),
)  # fmt: skip


class VariantsPart(Part):
    """New classes made from a batch's drawings, which they replace."""

    plate: float = Field(default=0.2, ge=0, le=1, description="Chance that a symbol is put on a plate, as on a sign.")
    tint: float = Field(default=0.1, ge=0, le=1, description="Chance that ink gets a colour that belongs to its class.")
    rivals: float = Field(
        default=0.5, ge=0, le=1, description="Chance that such a class shares its plate or its symbol with another one."
    )


def make_variants(drawings: Tensor, part: VariantsPart, generator: torch.Generator) -> Tensor:
    """Return byte drawings (P, K, 4, 64, 64) in which variants replace some classes.

    They are made on the device of the drawings; all randomness comes from ``generator``, on the CPU.
    """
    with torch.device(drawings.device):
        return _made(drawings, part, generator)


def _made(drawings: Tensor, part: VariantsPart, generator: torch.Generator) -> Tensor:
    dice = _chance(1, len(drawings), generator)[0]
    ink = drawings[:, :, :3].flatten(1).amax(1) == 0
    plated = torch.nonzero(dice < part.plate).flatten()
    tinted = torch.nonzero((dice >= part.plate) & (dice < part.plate + part.tint) & ink).flatten()
    made = drawings.clone()
    if len(plated):
        made[plated] = _on_plates(drawings[plated], ink[plated], part.rivals, generator)
    if len(tinted):
        made[tinted] = _tinted(drawings[tinted], part.rivals, generator)
    return made


def _chance(rows: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, n, generator=generator, device="cpu").to(torch.get_default_device())


def _on_plates(drawings: Tensor, ink: Tensor, rivals: float, generator: torch.Generator) -> Tensor:
    """Put each class's symbol on a plate of its own; rivals copy the plate or the symbol of the previous class."""
    n = len(drawings)
    number, paint = _chance(8, n, generator), torch.tensor(_PAINTS)
    kind = (number[0] * _SHAPES).long()
    white = torch.tensor([1.0, 1.0, 1.0])
    fill = torch.where((number[1] < 0.4)[:, None], white, paint[(number[2] * len(paint)).long()])
    rim = torch.where((number[3] < _RIM)[:, None], paint[(number[4] * len(paint)).long()], fill)
    width, share = 0.08 + 0.14 * number[5], 0.42 + 0.22 * number[6]

    rival = number[7]
    earlier = torch.where(rival < rivals / 2, (torch.arange(n) - 1) % n, torch.arange(n))
    kind, fill, rim, width, share = (values[earlier] for values in (kind, fill, rim, width, share))
    copied = torch.nonzero((rival >= rivals / 2) & (rival < 0.75 * rivals)).flatten()
    drawings, ink = drawings.clone(), ink.clone()
    drawings[copied], ink[copied] = drawings[(copied - 1) % n], ink[(copied - 1) % n]

    distance = _distance(kind)
    edge = 2 / SIDE
    plate = (0.5 - distance / edge).clamp(0, 1)
    inside = (0.5 - (distance + width.view(-1, 1, 1)) / edge).clamp(0, 1)
    colours = fill[:, :, None, None] * inside[:, None] + rim[:, :, None, None] * (1 - inside)[:, None]
    symbol = _shrunk(drawings.float() / 255, share)
    dark = (fill @ torch.tensor([0.299, 0.587, 0.114])) < 0.5
    pen = torch.where(dark[:, None], white, torch.tensor([0.02, 0.02, 0.02]))
    shown = torch.where(ink.view(-1, 1, 1, 1, 1), pen[:, None, :, None, None], symbol[:, :, :3])
    alpha = symbol[:, :, 3:] * plate[:, None, None]
    picture = colours[:, None] * (1 - alpha) + shown * alpha
    return _as_bytes(torch.cat([picture, plate[:, None, None].expand_as(alpha)], 2))


def _distance(kind: Tensor) -> Tensor:
    """Return each pixel's signed distance to its plate, (n, 64, 64).

    Plates are discs, squares, diamonds, triangles (pointing up or down), octagons and slabs.
    """
    axis = (torch.arange(SIDE) * 2 + 1) / SIDE - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    half = CONTENT
    across, down = x.abs(), y.abs()
    square = torch.maximum(across, down) - half
    slope = math.sqrt(5)
    shapes = torch.stack([
        (x.square() + y.square()).sqrt() - half,
        square,
        (across + down - half) / math.sqrt(2),
        torch.maximum(y - half, (2 * across - y - half) / slope),
        torch.maximum(-y - half, (2 * across + y - half) / slope),
        torch.maximum(square, (across + down - half * math.sqrt(2)) / math.sqrt(2)),
        torch.maximum(across - half, down - 0.68 * half),
    ])  # fmt: skip
    return shapes[kind]


def _shrunk(drawings: Tensor, share: Tensor) -> Tensor:
    """Return drawings (n, K, 4, 64, 64), straight alpha, shrunk to ``share`` (n,) of their size about the centre."""
    n, k = drawings.shape[:2]
    premultiplied = torch.cat([drawings[:, :, :3] * drawings[:, :, 3:], drawings[:, :, 3:]], 2).flatten(0, 1)
    halves = F.avg_pool2d(premultiplied, 2)
    scale = (1 / share).repeat_interleave(k)
    maps = torch.zeros(n * k, 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = scale
    grid = F.affine_grid(maps, [n * k, 4, SIDE, SIDE], align_corners=False)
    small = F.grid_sample(halves, grid, align_corners=False).view(n, k, 4, SIDE, SIDE)
    return torch.cat([small[:, :, :3] / small[:, :, 3:].clamp(min=1e-3), small[:, :, 3:]], 2).clamp(0, 1)


def _tinted(drawings: Tensor, rivals: float, generator: torch.Generator) -> Tensor:
    """Colour each class's ink; a rival is the symbol of the previous class in another colour."""
    n = len(drawings)
    number = _chance(5, n, generator)
    copied = torch.nonzero(number[0] < rivals).flatten()
    hue = number[1].clone()
    before = (copied - 1) % n
    hue[copied] = (number[1][before] + _OTHER_HUE + (1 - 2 * _OTHER_HUE) * number[2][copied]) % 1
    drawings = drawings.clone()
    drawings[copied] = drawings[before]
    colour = _hue(hue) * (0.55 + 0.45 * number[3])[:, None]
    colour = colour + (1 - colour) * (0.25 * number[4])[:, None]
    alpha = drawings[:, :, 3:].float() / 255
    shown = colour.clamp(min=0.02)[:, None, :, None, None] * (alpha > 0)
    return _as_bytes(torch.cat([shown, alpha], 2))


def _hue(hue: Tensor) -> Tensor:
    """Return saturated colours (n, 3) for hues (n,) in [0, 1)."""
    sixths = (hue[:, None] * 6 + torch.tensor([0.0, 4.0, 2.0])) % 6
    return ((sixths - 3).abs() - 1).clamp(0, 1)


def _as_bytes(drawings: Tensor) -> Tensor:
    return (drawings * 255).round().to(torch.uint8)
