"""Map each pixel of a picture to a point of the drawing: framing, perspective, bent surfaces, an unsteady hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual alias

from training.camera.chance import WAVES, Chance
from training.camera.part import CameraPart

SIDE = 64
"""Side of a drawing in pixels."""
CONTENT = 0.875
"""Share of a drawing's side that its symbol fills."""
_LOOSE = 0.65
"""Smallest share of the side that a symbol fills in a clean picture."""
_RARELY = 0.06
"""Share of photographs that are rotated up to three times as far."""
_FAR = 1e3
_NEAREST = 0.3

# Layout of the atlas: the drawing at full, half and quarter size, and a neighbour at half size.
_ATLAS = (67, 117)
_FULL, _HALF, _QUARTER = _LEVELS = ((1, 1, 64), (1, 66, 32), (1, 99, 16))
_NEIGHBOUR = (34, 66, 32)
"""Row, column and side of each, one transparent pixel apart."""


@dataclass(frozen=True)
class View:
    """The views of n pictures.

    ``u`` and ``v`` (n, 1, size, size) are each pixel's coordinates on the plane of the drawing, which covers [-1, 1].
    ``fill`` (n,) is the share of the picture's side that the symbol fills, ``centre`` (n, 2) the symbol's position in
    the picture's [-1, 1], and ``step`` (n,) the distance on the plane between neighbouring pixels.
    """

    u: Tensor
    v: Tensor
    fill: Tensor
    centre: Tensor
    step: Tensor


def picture_axes(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x (1, 1, 1, size) and y (1, 1, size, 1) of pixel centres, in [-1, 1]."""
    axis = (torch.arange(size, device=device) * 2 + 1) / size - 1
    return axis.view(1, 1, 1, size), axis.view(1, 1, size, 1)


def look(ink: Tensor, chance: Chance, part: CameraPart, size: int) -> View:
    """Draw a random view for each picture; ``ink`` (n,) marks drawings in ink, which wobble more."""
    strength = chance.strength
    turned = torch.where(chance.unit() < _RARELY, 3.0, 1.0)
    slight = torch.full_like(strength, 2.0).clamp(max=part.rotation)
    angle = torch.deg2rad((chance.unit() * 2 - 1) * torch.maximum(strength * part.rotation * turned, slight))
    cos, sin = angle.cos(), angle.sin()
    stretch = torch.exp(chance.either_side(part.stretch / 2))
    shear = chance.either_side(part.shear)
    loose = max(_LOOSE, part.fill)
    least = loose - (loose - part.fill) * strength
    fill = 1 - (1 - least) * chance.unit() ** 1.5
    # The symbol's bounding square has this size even after rotation and stretching.
    zoom = CONTENT / fill * (cos.abs() + sin.abs()) * torch.maximum(stretch, 1 / stretch)
    room = (1 - fill) + 2 * part.cut * fill * strength
    centre = (chance.vectors(2) * 2 - 1) * room[:, None]
    slopes = torch.stack([chance.either_side(part.perspective) for _ in range(2)], 1)

    x, y = picture_axes(size, strength.device)
    x, y = x - _each(centre[:, 0]), y - _each(centre[:, 1])
    near = (1 + _each(slopes[:, 0]) * x + _each(slopes[:, 1]) * y).clamp(min=_NEAREST)
    u = (_each(zoom * stretch * cos) * x + _each(zoom * stretch * (sin + shear * cos)) * y) / near
    v = (_each(zoom / stretch * -sin) * x + _each(zoom / stretch * (cos - shear * sin)) * y) / near
    u, v = (
        u + _each(chance.either_side(part.bend)) * (v.square() - 0.3),
        v + _each(chance.either_side(part.bend)) * (u.square() - 0.3),
    )
    amount = _each(chance.up_to(1.5 * part.wobble) * torch.where(ink, 1.0, 0.33))
    waves = _waves(size, strength.device)
    shifts = waves @ (chance.normal * amount) @ waves.T
    step = zoom * (2 / size)
    return View(u + shifts[:, :1], v + shifts[:, 1:], fill, centre, step)


def _waves(size: int, device: torch.device) -> Tensor:
    """Return smooth weights (size, WAVES) that interpolate a coarse grid of shifts along one axis."""
    places = torch.arange(size, device=device)[:, None] * ((WAVES - 1) / max(size - 1, 1))
    distance = (places - torch.arange(WAVES, device=device)).abs().clamp(max=1)
    return 0.5 + 0.5 * torch.cos(math.pi * distance)


def sample_drawings(drawings: Tensor, view: View, chance: Chance, part: CameraPart) -> Tensor:
    """Sample premultiplied drawings (n, 4, 64, 64) at each view, as (n, 4, size, size).

    Outside the drawing everything is transparent. A drawing that is shrunk is sampled from its half or quarter copy.
    With clutter, other drawings of the batch appear beside it, in a row, a column or both.
    """
    n = chance.n
    others = (torch.arange(n, device=drawings.device) + 1 + (chance.unit() * max(n - 1, 1)).long()) % n
    halves = F.avg_pool2d(drawings, 2)
    atlas = drawings.new_zeros(n, 4, *_ATLAS)
    parts = ((_FULL, drawings), (_HALF, halves), (_QUARTER, F.avg_pool2d(halves, 2)), (_NEIGHBOUR, halves[others]))
    for (row, column, side), pixels in parts:
        atlas[:, :, row : row + side, column : column + side] = pixels

    crowded, rows, columns = chance.happens(part.clutter), chance.unit() < 0.65, chance.unit() < 0.5
    reach = chance.between(0.92, 1.3)
    reach_u = _each(torch.where(crowded & (rows | ~columns), reach, _FAR))
    reach_v = _each(torch.where(crowded & columns, reach, _FAR))
    u, v = view.u, view.v
    far = (u.abs() > reach_u) | (v.abs() > reach_v)
    u = torch.where(u.abs() > reach_u, u - u.sign() * 2 * reach_u, u)
    v = torch.where(v.abs() > reach_v, v - v.sign() * 2 * reach_v, v)

    shrunk = view.step * (SIDE / 2)
    halved, quartered = shrunk > math.sqrt(2), shrunk > math.sqrt(8)
    grid = []
    for axis, place in ((1, u), (0, v)):
        shape = _ATLAS[axis]
        slope, offset = (
            torch.where(quartered, values[2], torch.where(halved, values[1], values[0]))
            for values in zip(*(_to_atlas(at[axis], at[2], shape) for at in _LEVELS), strict=True)
        )
        edge = _each(1 + torch.where(quartered, 4.0, torch.where(halved, 2.0, 1.0)) / SIDE)
        other_slope, other_offset = _to_atlas(_NEIGHBOUR[axis], _NEIGHBOUR[2], shape)
        own = place.clamp(-edge, edge) * _each(slope) + _each(offset)
        other_edge = 1 + 1 / _NEIGHBOUR[2]
        grid.append(torch.where(far, place.clamp(-other_edge, other_edge) * other_slope + other_offset, own))
    return F.grid_sample(atlas, torch.stack(grid, -1)[:, 0], align_corners=False)


def _to_atlas(start: int, side: int, whole: int) -> tuple[float, float]:
    """Return slope and offset from [-1, 1] on a drawing to ``grid_sample`` coordinates on the atlas, along one axis."""
    return side / whole, (2 * start + side) / whole - 1


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
