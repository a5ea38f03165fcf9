"""What a symbol is drawn with: thickness, outline, ink, shifts of colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from training.camera.chance import Chance
from training.camera.part import CameraPart

_THIN, _THICK = 0.15, 0.45
"""Share of the ink that stays without its outermost pixel: below the first none is taken off, from the second all."""


def thicken(alpha: Tensor, ink: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Return the alpha (n, 1, 64, 64) of ``ink`` drawings (n,) grown, shrunk or as an outline; of others as it is."""
    outlined = chance.happens(part.outline) & ink
    pixels = chance.either_side(part.thickness) * ink
    pixels = torch.where(outlined, -2.0, pixels)
    shrinks = _each(pixels < 0)
    inside = torch.where(shrinks, 1 - alpha, alpha)
    once = F.max_pool2d(inside, 3, stride=1, padding=1)
    twice = F.max_pool2d(once, 3, stride=1, padding=1)
    # Thin strokes would vanish.
    stays = (1 - once).sum((1, 2, 3)) / alpha.sum((1, 2, 3)).clamp(min=1)
    spared = ((stays - _THIN) / (_THICK - _THIN)).clamp(0, 1)
    pixels = torch.where((pixels < 0) & ~outlined, pixels * spared, pixels)
    amount = _each(pixels.abs())
    inside = inside.lerp(once, amount.clamp(max=1)).lerp(twice, (amount - 1).clamp(0, 1))
    changed = torch.where(shrinks, 1 - inside, inside)
    return torch.where(_each(outlined), alpha - changed, changed)


def any_colour(chance: Chance) -> Tensor:
    """Return colours (n, 3): nearly half of them of paper and plaster, the others any."""
    colour = chance.vectors(3)
    grey = luminance(colour)[:, None]
    colour = grey + (colour - grey) * chance.unit()[:, None]
    paper = chance.between(0.72, 1)[:, None] + 0.12 * (colour - 0.5)
    return torch.where((chance.unit() < 0.45)[:, None], paper.clamp(0, 1), colour)


def luminance(colour: Tensor) -> Tensor:
    """Return the luminance (n,) of colours (n, 3)."""
    return 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]


def at_luminance(colour: Tensor, target: Tensor) -> Tensor:
    """Return colours (n, 3) of the hue of ``colour`` and about the luminance ``target`` (n,)."""
    own = luminance(colour)
    darker = colour * (target / own.clamp(min=0.02))[:, None]
    lighter = 1 - (1 - colour) * ((1 - target) / (1 - own).clamp(min=0.02))[:, None]
    return torch.where((target < own)[:, None], darker, lighter).clamp(0, 1)


def ink_colour(beneath: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Return an ink (n, 3) that stands out on the luminance ``beneath`` (n,): mostly black or white, else of any hue.

    Clean pictures and weak photographs are black on light and white on dark.
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
    # Strong colours: the middle of a random colour's range is dull.
    hue = (0.5 + 1.6 * (hue - 0.5)).clamp(0.02, 0.98)
    return at_luminance(hue, target)


def colour_map(ink: Tensor, ink_rgb: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Return matrices (n, 3, 4) that make the colour of a symbol of its premultiplied red, green, blue and alpha.

    Drawings in ``ink`` (n,) become ``ink_rgb`` (n, 3). Coloured ones shift in hue, saturation and brightness; some
    turn grey, and some are printed in two colours, of which one is that ink.
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
    # Two colours: the ink for the dark parts and a light or dark one for the others.
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
