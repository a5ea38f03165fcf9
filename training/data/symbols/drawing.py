"""Drawings: 64 x 64 RGBA pixels with the symbol cropped to its bounding box."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from training.camera.geometry import CONTENT, SIDE

Drawing = npt.NDArray[np.uint8]
"""(64, 64, 4), straight alpha; red, green and blue are 0 everywhere in a drawing in ink."""

_INK: Final = 24
"""A drawing counts as black ink if no channel exceeds this value."""
_LEVELS: Final = 17
"""Values are multiples of this: sixteen levels, which compress well."""
_LEAST: Final = 0.002
"""Mean opacity below which a drawing counts as blank."""


def from_ink(image: Image.Image) -> Drawing:
    """Return a black-on-white image as a drawing in ink.

    Raises:
        ValueError: the image is blank.
    """
    alpha = ImageChops.invert(image.convert("L"))
    black = Image.new("L", alpha.size)
    drawing = cut(Image.merge("RGBa", (black, black, black, alpha)))
    if drawing is None:
        raise ValueError("nothing is drawn")
    return drawing


def cut(picture: Image.Image) -> Drawing | None:
    """Crop a premultiplied picture to its opaque part, scale it and centre it in a drawing; None if it is blank."""
    box = picture.getchannel("a").point(lambda value: value if value > _INK else 0).getbbox()
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    content = round(SIDE * CONTENT)
    scale = content / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC, box)
    square = Image.new("RGBa", (SIDE, SIDE))
    square.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    pixels = np.asarray(square.convert("RGBA"))
    alpha = _few_levels(pixels[:, :, 3:])
    if alpha.mean() < 255 * _LEAST:
        return None
    colours = _few_levels(pixels[:, :, :3]) * (alpha > 0)
    if colours.max() <= _INK:
        colours = np.zeros_like(colours)
    return np.concatenate([colours, alpha], 2)


def _few_levels(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return (np.rint(values / _LEVELS) * _LEVELS).astype(np.uint8)
