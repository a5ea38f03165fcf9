"""The camera: drawings in, pictures out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.camera.chance import ROWS, WAVES, Chance
from training.camera.geometry import SIDE, look, sample_drawings
from training.camera.ink import thicken
from training.camera.optics import Lens, expose, make_lens
from training.camera.part import CameraPart
from training.camera.scene import compose, ground, layers
from training.camera.textures import make_textures

__all__ = ["Camera", "CameraPart"]

_TEXTURES = 128
_TEXTURE_SIDE = 96


@dataclass(frozen=True)
class _Tables:
    """Tables computed once per device: photographs and patterns for grounds, and the lens."""

    grounds: Tensor
    lens: Lens


class Camera:
    """Photographs drawings of shape (P, K, 4, 64, 64), RGB and straight alpha, each differently.

    Args:
        part: the recipe's settings.
        grounds: photographs (m, 3, side, side) as bytes, to place under symbols; None: colours and patterns only.
        size: side of the pictures in pixels, a multiple of 8.
        compiled: fuse operations with ``torch.compile``, which takes about a minute for each new shape of drawings. A
            GPU then runs a tenth as many kernels; the results differ in rounding.

    Raises:
        ValueError: ``size`` is not a multiple of 8.
    """

    def __init__(self, part: CameraPart, grounds: Tensor | None, size: int, *, compiled: bool = False) -> None:
        if size < 8 or size % 8:
            raise ValueError(f"a picture's side must be a multiple of 8 pixels, and is {size}")
        self.part = part
        self.size = size
        self._take = torch.compile(self._photograph, dynamic=False) if compiled else self._photograph
        self._n_photos = 0 if grounds is None else len(grounds)
        textures = make_textures(_TEXTURES, _TEXTURE_SIDE if grounds is None else grounds.shape[3])
        bank = textures if grounds is None else torch.cat([grounds.to(textures.device), textures])
        self._tables = {torch.device("cpu"): _Tables(bank, make_lens(part, size))}

    @torch.no_grad()
    def __call__(self, drawings: Tensor, generator: torch.Generator) -> Tensor:
        """Return pictures (P * K, 3, size, size) in [0, 1] of drawings (P, K, 4, 64, 64), bytes or [0, 1].

        A drawing whose red, green and blue are 0 everywhere is ink, which the camera colours. All randomness comes from
        ``generator``, on the device of the drawings. The first image of a class is clean with probability
        ``part.clean``: on a plain ground, without light or blur.
        """
        n_classes, n_images = drawings.shape[:2]
        n, device = n_classes * n_images, drawings.device
        table = torch.rand(ROWS, n, generator=generator, device=device)
        normal = torch.randn(n, 2, WAVES, WAVES, generator=generator, device=device)
        tables = self._on(device)
        with torch.autocast(device.type, enabled=False):  # bfloat16's 8 bits of precision would cause banding
            return self._take(drawings.reshape(n, 4, SIDE, SIDE), n_images, Chance(table, normal), tables)

    def _photograph(self, pixels: Tensor, n_images: int, chance: Chance, tables: _Tables) -> Tensor:
        part, size = self.part, self.size
        pixels = pixels.float() if pixels.is_floating_point() else pixels.float() / 255
        clean = (torch.arange(chance.n, device=pixels.device) % n_images == 0) & (chance.unit() < part.clean)
        chance.set_strength(torch.where(clean, 0.0, chance.between(part.weakest, part.strength)))
        scanned = chance.unit() < part.scan
        ink = pixels[:, :3].amax((1, 2, 3)) == 0
        alpha = thicken(pixels[:, 3:], ink, chance, part)
        premultiplied = torch.cat([pixels[:, :3] * alpha, alpha], 1)
        view = look(ink, chance, part, size)
        shown = sample_drawings(premultiplied, view, chance, part)
        chance.set_strength(chance.strength * ~scanned)
        base = ground(tables.grounds, self._n_photos, size, chance, part)
        colours, masks, left = layers(view, chance, part)
        base = torch.baddbmm(base.mul_(left).flatten(2), colours, masks.flatten(2)).view_as(base)
        shown = shown * (1 - masks[:, 2:])
        return expose(compose(shown, ink, base, chance, part), view, tables.lens, chance, part)

    def _on(self, device: torch.device) -> _Tables:
        if device not in self._tables:
            cpu = self._tables[torch.device("cpu")]
            self._tables[device] = _Tables(cpu.grounds.to(device), cpu.lens.to(device))
        return self._tables[device]
