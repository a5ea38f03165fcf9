"""Convert an image of any mode to 8-bit grey or RGB: range of levels, and background under transparency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

_DEEP_GREY_MODES: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_ALPHA_MODES: Final = ("LA", "La", "PA", "RGBA", "RGBa")
_STRIP_PIXELS: Final = 500_000
#: Least difference, in levels of 255, for an image to show something.
_LEAST_CONTRAST: Final = 16
#: Mean squared difference of neighbours, relative to that of any two pixels: 1 for noise, much less for drawings.
_ROUGHNESS_OF_NOISE: Final = 0.6
#: Side, in pixels, of the sample from which flatness and background are judged.
_SAMPLE_SIDE: Final = 512
#: A page or badge fills at least this share of its bounding box; a drawing without background fills less.
_SHARE_OF_A_PAGE: Final = 0.85

Grey = npt.NDArray[np.float64]


def to_8_bit(image: Image.Image) -> Image.Image:
    """The image in mode ``L`` or ``RGB``.

    Grey deeper than 8 bits is stretched from the range in use, because files don't state their range. Transparent
    parts get the colour of the visible page. If the visible part is not a page, they become white or black, whichever
    contrasts with it.
    """
    if image.mode in _DEEP_GREY_MODES:
        return _deep_grey_to_8_bit(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _composite(image)
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """The image in horizontal strips from the top, since float copies take many times the memory of the pixels."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


# -- grey of more than 8 bits ------------------------------------------------------------------------------


def _deep_grey_to_8_bit(image: Image.Image) -> Image.Image:
    low, high = _range(image)
    if _is_flat(image, low, high):  # stretching would amplify noise
        low, high = min(0.0, low), next((white for white in (1.0, 255.0, 65_535.0) if high <= white), high)
    scale = 255.0 / (high - low) if high > low else 0.0
    strips = [
        ((np.where(np.isfinite(pixels), pixels, low) - low) * scale).round().clip(0, 255).astype(np.uint8)
        for pixels in map(_floats, _strips(image))
    ]
    return Image.fromarray(np.concatenate(strips))


def _range(image: Image.Image) -> tuple[float, float]:
    finite = (pixels[np.isfinite(pixels)] for pixels in map(_floats, _strips(image)))
    ranges = [(float(pixels.min()), float(pixels.max())) for pixels in finite if pixels.size]
    return min((low for low, _ in ranges), default=0.0), max((high for _, high in ranges), default=0.0)


def _is_flat(image: Image.Image, low: float, high: float) -> bool:
    """Whether the image has nearly one level, and the small differences are noise."""
    if high == low:
        return True
    if 255 * (high - low) >= _LEAST_CONTRAST * max(abs(low), abs(high)):
        return False
    pixels = np.nan_to_num(_floats(_middle(image)), nan=low, posinf=high, neginf=low)
    steps = [np.square(np.diff(pixels, axis=axis)).mean() for axis in (0, 1) if pixels.shape[axis] > 1]
    return bool(np.mean(steps) > 2 * _ROUGHNESS_OF_NOISE * pixels.var()) if steps else True


def _middle(image: Image.Image) -> Image.Image:
    left, top = (max(0, (side - _SAMPLE_SIDE) // 2) for side in image.size)
    return image.crop((left, top, min(image.width, left + _SAMPLE_SIDE), min(image.height, top + _SAMPLE_SIDE)))


def _floats(image: Image.Image) -> Grey:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return np.asarray(image, dtype=np.float64)


# -- transparency ------------------------------------------------------------------------------------------


def _composite(image: Image.Image) -> Image.Image:
    """Composite the image onto the colour of its page, or onto white or black, whichever contrasts."""
    shade = (*_background(image), 255)
    whole, top = Image.new("RGB", image.size), 0
    for strip in _strips(image):
        background = Image.new("RGBA", strip.size, shade)
        whole.paste(Image.alpha_composite(background, _rgba(strip)).convert("RGB"), (0, top))
        top += strip.height
    return whole


def _background(image: Image.Image) -> tuple[int, int, int]:
    """The colour for transparent parts, from a sample of the image's pixels."""
    width, height = (min(side, _SAMPLE_SIDE) for side in image.size)
    sample = image.resize((width, height), Image.Resampling.NEAREST)
    rgba = np.asarray(_rgba(sample), dtype=np.int64)
    alpha, colours = rgba[..., 3], rgba[..., :3]
    visible = alpha >= 128
    if visible.any() and _is_page(visible, colours.sum(axis=2) // 3):
        red, green, blue = np.median(colours[visible], axis=0).astype(int).tolist()
        return red, green, blue
    light, weight = int((colours.sum(axis=2) * alpha).sum()), int(alpha.sum())
    is_bright = weight > 0 and light / (3 * weight) > 127.5
    return (0, 0, 0) if is_bright else (255, 255, 255)


def _is_page(visible: npt.NDArray[np.bool_], grey: npt.NDArray[np.int64]) -> bool:
    """Whether the visible part is a page with something on it, not the drawing itself."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    box = visible[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    levels = grey[visible]
    return bool(box.mean() >= _SHARE_OF_A_PAGE and levels.max() - levels.min() >= _LEAST_CONTRAST)


def _rgba(image: Image.Image) -> Image.Image:
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
