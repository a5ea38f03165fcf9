"""A fixed photographed version of a set of drawings, for validation."""

from __future__ import annotations

import torch
from torch import Tensor

from training.camera.camera import Camera, CameraPart
from training.data.labelled import PreparedImages

_CHUNK = 128


def photograph(
    prepared: PreparedImages,
    part: CameraPart,
    size: int,
    seed: int,
    *,
    grounds: Tensor | None = None,
    photographs: int = 1,
) -> PreparedImages:
    """Return a clean picture and ``photographs`` photographs of each drawing in ``prepared`` (n, 4, 64, 64).

    The pictures are bytes (n * (1 + photographs), 3, size, size). ``sources`` is 0 for clean pictures and counts
    photographs from 1. The same arguments give the same pictures on the same kind of device.
    """
    camera = Camera(part.model_copy(update={"clean": 1.0}), grounds, size)
    device = prepared.pixels.device
    generator = torch.Generator(device).manual_seed(seed)
    each = 1 + photographs
    pictures = [
        camera(drawings[:, None].expand(-1, each, -1, -1, -1), generator).mul_(255).round_().byte()
        for drawings in torch.split(prepared.pixels, _CHUNK)
    ]
    sources = torch.arange(each, device=prepared.sources.device).repeat(len(prepared.classes))
    return PreparedImages(torch.cat(pictures), prepared.classes.repeat_interleave(each), sources, prepared.groups)
