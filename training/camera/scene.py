"""The scene around a symbol: ground, card or sign, obstacle, and their composition."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual alias

from training.camera.chance import Chance
from training.camera.geometry import View, picture_axes
from training.camera.ink import any_colour, colour_map, ink_colour, luminance
from training.camera.part import CameraPart

_SAMPLED = 4
"""The ground's statistics are taken from every fourth pixel along both axes."""
_BUSY, _RELIEF = 0.33, 0.3


def ground(bank: Tensor, n_photos: int, size: int, chance: Chance, part: CameraPart) -> Tensor:
    """Return grounds (n, 3, size, size): one colour, two colours mixed by a pattern, or a photograph.

    ``bank`` (m, 3, side, side), as bytes, holds ``n_photos`` photographs followed by patterns.
    """
    n = chance.n
    photo = chance.happens(part.photo if n_photos else 0)
    textured = chance.happens(part.texture) & ~photo
    first, patterns = torch.where(photo, 0, n_photos), torch.where(photo, n_photos, len(bank) - n_photos)
    patch = bank[first + (chance.unit() * patterns).long()].float().div_(255)

    angle = torch.where(photo, chance.either_side(0.3), chance.between(-math.pi, math.pi))
    zoom = chance.between(0.35, 1)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    shift = [chance.between(-1, 1) * (1 - zoom) for _ in range(2)]
    maps = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], 1).view(n, 2, 3)
    grid = F.affine_grid(maps, [n, 3, size, size], align_corners=False)
    sample = F.grid_sample(patch, grid, padding_mode="reflection", align_corners=False)

    plain = _plain_colour(chance)
    second = plain.lerp(any_colour(chance), torch.where(textured, chance.between(0.15, 1), 0.0)[:, None])
    gain = chance.between(0.5, 1.1)[:, None] * torch.ones_like(plain)
    slope = torch.where(photo[:, None], gain, second - plain)
    offset = torch.where(photo[:, None], (1 - gain).clamp(min=0) * chance.unit()[:, None], plain)
    return sample.mul_(slope[:, :, None, None]).add_(offset[:, :, None, None])


def _plain_colour(chance: Chance) -> Tensor:
    """Return colours (n, 3); clean pictures mostly get white, sometimes black or another colour."""
    kind, coloured = chance.unit(), any_colour(chance)
    clean = torch.where((kind < 0.78)[:, None], 1.0, torch.where((kind < 0.86)[:, None], 0.0, coloured))
    white = chance.unit() < 0.2
    plain = torch.where(white[:, None], 1.0, coloured)
    return torch.where((chance.strength > 0)[:, None], plain, clean)


def layers(view: View, chance: Chance, part: CameraPart) -> tuple[Tensor, Tensor, Tensor]:
    """Return the layers over the ground: colours (n, 3, 3) and masks (n, 3, size, size) of card, rim and obstacle.

    The third result (n, 1, size, size) is the factor on the ground, which includes the card's shadow.
    """
    there = chance.happens(part.card)
    distance = _card_distance(view, chance)
    edge = _each(view.step)
    card = (0.5 - distance / edge).clamp(0, 1) * _each(there)
    rim_width = _each(torch.where(chance.unit() < 0.35, chance.between(0.03, 0.12), 0.0))
    rim = (0.5 - ((distance + 1.5 * rim_width).abs() - rim_width) / edge).clamp(0, 1) * card * (rim_width > 0)
    obstacle = _obstacle(view, chance) * _each(chance.happens(part.occlusion))
    shade = chance.up_to(0.5) * there
    left = (1 - card) * (1 - _each(shade) * (1 - distance.clamp(min=0) * 4).clamp(min=0)) * (1 - obstacle)
    masks = torch.cat([(card - rim) * (1 - obstacle), rim * (1 - obstacle), obstacle], 1)
    return torch.stack([any_colour(chance) for _ in range(3)], 2), masks, left


def _card_distance(view: View, chance: Chance) -> Tensor:
    """Return each pixel's signed distance, on the plane, to a rounded rectangle, disc, octagon or triangle."""
    kind = _each(chance.unit())
    side = chance.between(0.98, 1.6)
    half_u = _each(side)
    half_v = _each(torch.where(chance.unit() < 0.5, side, side * chance.between(0.85, 1.5)))
    u, v = view.u.abs(), view.v.abs()
    disc = kind < 0.15
    half_v = torch.where(disc, half_u, half_v)
    radius = torch.where(disc, half_u, _each(chance.unit().square() * 0.6) * torch.minimum(half_u, half_v))
    across, down = u - half_u + radius, v - half_v + radius
    outside = (across.clamp(min=0).square() + down.clamp(min=0).square()).sqrt()
    rectangle = outside + torch.maximum(across, down).clamp(max=0) - radius
    octagon = torch.maximum(rectangle, (u + v) * math.sqrt(0.5) - half_u * 1.08)
    triangle = torch.maximum(view.v, u * (math.sqrt(3) / 2) - view.v / 2) - half_u
    return torch.where((kind > 0.15) & (kind < 0.22), octagon, torch.where(kind > 0.94, triangle, rectangle))


def _obstacle(view: View, chance: Chance) -> Tensor:
    """Return masks (n, 1, size, size) of a box or disc that hides at most about a fifth of the symbol."""
    x, y = picture_axes(view.u.shape[3], view.u.device)
    reach = view.fill * chance.between(0.15, 0.42)
    away = view.fill * chance.between(0.5, 1)
    angle = chance.between(-math.pi, math.pi)
    x = x - _each(view.centre[:, 0] + away * angle.cos())
    y = (y - _each(view.centre[:, 1] + away * angle.sin())) * _each(chance.between(0.4, 1))
    box = torch.maximum(x.abs(), y.abs())
    disc = (x.square() + y.square()).sqrt()
    distance = torch.where(_each(chance.unit() < 0.5), box, disc) - _each(reach)
    return (0.5 - distance * (view.u.shape[3] / 2)).clamp(0, 1)


def compose(shown: Tensor, ink: Tensor, base: Tensor, chance: Chance, part: CameraPart) -> Tensor:
    """Compose pictures (n, 3, size, size): the premultiplied symbols ``shown`` (n, 4, size, size) on ``base``.

    ``ink`` (n,) marks drawings in ink. Their ink keeps at least ``part.contrast`` to the ground beneath. Under a
    coloured drawing with too little contrast the ground is made lighter or darker.
    """
    n, _, size, _ = shown.shape
    alpha = shown[:, 3:]
    few, few_shown = base[:, :, ::_SAMPLED, ::_SAMPLED], shown[:, :, ::_SAMPLED, ::_SAMPLED]
    weight = few_shown[:, 3:].sum((2, 3)).clamp(min=1e-3)
    beneath = (few * few_shown[:, 3:]).sum((2, 3)) / weight
    level, drawn = luminance(beneath), luminance(few_shown[:, :3].sum((2, 3)) / weight)
    ink_rgb = ink_colour(level, chance, part)
    # Limit the ground's deviation to a third of the symbol's contrast (or of a relief's), or thin lines would drown.
    apart = (luminance(ink_rgb) - level).abs()
    spread = few.std((2, 3)).mean(1)
    relief = chance.happens(part.relief)
    quiet = torch.where(relief, _BUSY * _RELIEF, torch.where(ink, _BUSY * apart, 1.0))
    calm = (quiet / spread.clamp(min=1e-3)).clamp(max=1)
    least = part.contrast / 2
    wanted = torch.where(drawn < 0.5, drawn + least, drawn - least) - level
    moved = torch.where(ink | ((level - drawn).abs() >= least), 0.0, wanted)
    base = base.mul_(_each(calm)).add_((beneath * (1 - calm[:, None]) + moved[:, None])[:, :, None, None])

    raised = chance.unit() < 0.4
    body = torch.where(relief & ~raised, torch.where(ink, 0.0, 0.2) + chance.between(0, 0.5), 1.0)
    faint = chance.up_to(part.faint) * (chance.unit() < 0.3)
    grain = base[:, 1:2] - _each(beneath[:, 1])
    opacity = (_each(body * (1 - faint / 2)) + _each(faint * 2) * grain).clamp(0, 1)
    colours = colour_map(ink, ink_rgb, chance, part)
    drawn_rgb = torch.bmm(colours, shown.flatten(2)).view(n, 3, size, size)
    picture = base.mul_(1 - alpha * opacity).addcmul_(drawn_rgb, opacity)
    height = alpha - luminance(shown)[:, None]
    return picture.add_(_shading(height, chance) * _each(relief * chance.between(0.25, 0.6)))


def _shading(height: Tensor, chance: Chance) -> Tensor:
    """Return the light and dark edges (n, 1, size, size) of a relief with this ``height``, lit from a random side."""
    angle = chance.between(-math.pi, math.pi)
    across = height.roll(1, 3) - height.roll(-1, 3)
    down = height.roll(1, 2) - height.roll(-1, 2)
    return across * _each(angle.cos()) + down * _each(angle.sin())


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
