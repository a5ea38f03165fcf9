"""The appearance of a symbol: line thickness, outline, ink, colour shifts."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual alias

from training.camera.chance import Chance
from training.camera.part import CameraPart

_THIN, _THICK = 0.15, 0.45
"""Share of the ink that erosion by a pixel leaves: below the first no erosion is applied, from the second all of it."""


def thicken(alpha: Tensor, ink: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Return alpha (n, 1, 64, 64), dilated, eroded or outlined for ``ink`` drawings (n,), unchanged for others."""
    outlined = chance.happens(part.outline) & ink
    pixels = chance.either_side(part.thickness) * ink
    pixels = torch.where(outlined, -2.0, pixels)
    shrinks = _each(pixels < 0)
    inside = torch.where(shrinks, 1 - alpha, alpha)
    once = F.max_pool2d(inside, 3, stride=1, padding=1)
    twice = F.max_pool2d(once, 3, stride=1, padding=1)
    # Erode thin strokes less, or they would vanish.
    stays = (1 - once).sum((1, 2, 3)) / alpha.sum((1, 2, 3)).clamp(min=1)
    spared = ((stays - _THIN) / (_THICK - _THIN)).clamp(0, 1)
    pixels = torch.where((pixels < 0) & ~outlined, pixels * spared, pixels)
    amount = _each(pixels.abs())
    inside = inside.lerp(once, amount.clamp(max=1)).lerp(twice, (amount - 1).clamp(0, 1))
    changed = torch.where(shrinks, 1 - inside, inside)
    return torch.where(_each(outlined), alpha - changed, changed)


def any_colour(chance: Chance) -> Tensor:
    """Return colours (n, 3): nearly half are those of paper and plaster, the rest arbitrary."""
    colour = chance.vectors(3)
    grey = luminance(colour)[:, None]
    colour = grey + (colour - grey) * chance.unit()[:, None]
    paper = chance.between(0.72, 1)[:, None] + 0.12 * (colour - 0.5)
    return torch.where((chance.unit() < 0.45)[:, None], paper.clamp(0, 1), colour)


def luminance(colour: Tensor) -> Tensor:
    """Return the luminance (n,) of colours (n, 3)."""
    return 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]


def at_luminance(colour: Tensor, target: Tensor) -> Tensor:
    """Return colours (n, 3) with the hue of ``colour`` and approximately the luminance ``target`` (n,)."""
    own = luminance(colour)
    darker = colour * (target / own.clamp(min=0.02))[:, None]
    lighter = 1 - (1 - colour) * ((1 - target) / (1 - own).clamp(min=0.02))[:, None]
    return torch.where((target < own)[:, None], darker, lighter).clamp(0, 1)


def ink_colour(beneath: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Return inks (n, 3) that contrast with the luminance ``beneath`` (n,).

    Clean pictures and weak photographs mostly have black on light or white on dark. Strong photographs often have ink
    of a random hue.
    """
    dark = beneath > chance.between(0.35, 0.65)
    dark = torch.where(beneath > 1 - part.contrast, True, torch.where(beneath < part.contrast, False, dark))
    room = torch.where(dark, beneath, 1 - beneath)
    plain = chance.unit() > chance.strength * 0.7 + 0.1
    fainter = chance.unit() * torch.where(plain, 0.1, 1.0) * chance.strength
    distance = room - (room - part.contrast).clamp(min=0) * fainter
    target = torch.where(dark, beneath - distance, beneath + distance).clamp(0, 1)
    hue = chance.vectors(3)
    hue = torch.where(plain[:, None], torch.full_like(hue, 0.5), hue)
    # Stretch the range: uniformly random colours are dull.
    hue = (0.5 + 1.6 * (hue - 0.5)).clamp(0.02, 0.98)
    return at_luminance(hue, target)


def colour_map(ink: Tensor, ink_rgb: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Return matrices (n, 3, 4) from a symbol's premultiplied RGBA to its colour.

    Drawings in ``ink`` (n,) become ``ink_rgb`` (n, 3). Coloured drawings shift in hue, saturation and brightness. Some
    become grey, and some become duotones with that ink as one of the two colours.
    """
    device = ink_rgb.device
    weights = torch.stack([torch.full_like(ink_rgb, w) for w in (0.299, 0.587, 0.114)], 2)  # rows: luminance
    identity = torch.eye(3, device=device)
    amount = part.colour
    saturation = torch.exp(chance.either_side(0.5 * amount))
    saturation = torch.where(chance.happens(0.08 * min(amount, 1)), 0.0, saturation)
    brightness = torch.exp(chance.either_side(0.25 * amount))
    offset = chance.up_to(0.12 * amount)
    hue = _hue_rotation(chance.either_side(math.radians(14) * amount))
    matrix = (identity - weights) @ hue * _row(saturation) + weights
    matrix = matrix * _row(brightness * (1 - offset))
    added = offset[:, None].expand(-1, 3)
    # Duotone: the ink for the dark parts, and a contrasting light or dark colour for the others.
    duotone = chance.happens(part.duotone) & ~ink
    other = torch.where((luminance(ink_rgb) > 0.5)[:, None], 0.15 * (1 - ink_rgb), 1 - 0.15 * ink_rgb)
    two = (other - ink_rgb)[:, :, None] * weights
    matrix = torch.where(_row(duotone), two, matrix)
    added = torch.where((duotone | ink)[:, None], ink_rgb, added)
    matrix = torch.where(_row(ink), 0.0, matrix)
    return torch.cat([matrix, added[:, :, None]], 2)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Return rotations (n, 3, 3) about the grey axis."""
    cos, sin = angle.cos(), angle.sin()
    a, b, c = cos + (1 - cos) / 3, (1 - cos) / 3 - sin / math.sqrt(3), (1 - cos) / 3 + sin / math.sqrt(3)
    return torch.stack([a, b, c, c, a, b, b, c, a], 1).view(-1, 3, 3)


def _row(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
