"""From a decoded image to the network's input; training and serving share this code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.manifest import PreprocessSpec

Pixels = npt.NDArray[np.uint8]
Prepared = npt.NDArray[np.float32]

_LONGEST_SIDE = 4096
"""Images with a longer side are shrunk to this many pixels first; far more than any network's input."""

_LEAST_CONTRAST = 16
"""Grey levels between background and boldest ink below which an image counts as blank."""


_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_LEAST_SEEN = 4
"""Grey levels in the network's input below which it counts as blank, even with thin lines."""


class Preprocess:
    """Turns an image of mode ``L`` or ``RGB`` into a float array of shape (channels, size, size) in [0, 1]."""

    def __init__(self, spec: PreprocessSpec) -> None:
        self.spec = spec

    def __call__(self, image: Image.Image) -> Prepared:
        """Prepare one image; thread-safe."""
        spec = self.spec
        mode, image = "L" if spec.channels == 1 else "RGB", _within_reason(image)
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        if spec.polarity == "ink":
            pixels = _ink_on_black(pixels)
        if spec.crop == "ink":
            pixels = _crop_to_ink(pixels, spec.margin)
        if spec.fit == "pad":
            pixels = _pad_to_square(pixels)
        # Pillow widens the filter when it shrinks an image, so this is antialiased.
        resized = Image.fromarray(pixels).resize(
            (spec.size, spec.size), _FILTERS[spec.interpolation], self._box(pixels)
        )
        array = np.asarray(resized, dtype=np.float32) / np.float32(255)
        return array[None] if spec.channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def _box(self, pixels: Pixels) -> tuple[float, float, float, float] | None:
        """The box of pixels to keep (left, top, right, bottom); None for all of them."""
        height, width = pixels.shape[:2]
        across = (min(height, width), min(height, width)) if self.spec.fit == "cover" else (width, height)
        if across == (width, height) and self.spec.share == 1:
            return None
        side, down = (self.spec.share * each for each in across)
        return (width - side) / 2, (height - down) / 2, (width + side) / 2, (height + down) / 2

    def shows_something(self, image: Image.Image, prepared: Prepared) -> bool:
        """Whether the image is not blank: the inputs prepared from blank images are all alike."""
        contrast = 255 * float(np.ptp(prepared))
        if not _LEAST_SEEN <= contrast < _LEAST_CONTRAST:
            return contrast >= _LEAST_CONTRAST
        # either thin lines on a large page, or a plain page that is slightly uneven
        bands = image.convert("L" if self.spec.channels == 1 else "RGB").split()
        return any(int(np.ptp(np.asarray(band))) >= _LEAST_CONTRAST for band in bands)


def _within_reason(image: Image.Image) -> Image.Image:
    """Shrink an image with a very long side: the square around 1 x 40,000,000 pixels would need a petabyte."""
    longest = max(image.size)
    if longest <= _LONGEST_SIDE:
        return image
    width, height = (max(1, round(side * _LONGEST_SIDE / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _border(pixels: Pixels) -> Pixels:
    """Return the outermost ring of pixels, flattened and sorted."""
    ring = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]], axis=None)
    ring.sort()
    return ring


def _median(border: Pixels) -> int:
    """Return the background's grey level: the lower median of the sorted border, a level that occurs in it."""
    return int(border[(border.size - 1) // 2])


def _ink_on_black(pixels: Pixels) -> Pixels:
    """Invert images with a bright background, then map the background to 0 and the boldest ink to 255."""
    border = _border(pixels)
    if _background_is_bright(pixels, border):
        pixels, border = 255 - pixels, 255 - border[::-1]
    return _stretch_levels(pixels, _median(border))


def _background_is_bright(pixels: Pixels, border: Pixels) -> bool:
    """Whether the background is brighter than what is drawn on it: the border's median against the mean.

    Both are doubled, so that in integer arithmetic an image and its negative always give opposite results.
    """
    doubled_median = _median(border) + int(border[border.size // 2])
    contrast: int = doubled_median * pixels.size - 2 * int(pixels.sum(dtype=np.int64))
    return doubled_median > 255 if contrast == 0 else contrast > 0


def _stretch_levels(pixels: Pixels, background: int) -> Pixels:
    """Map the background to 0 and the boldest ink to 255, so that pencil on grey paper equals ink on white."""
    boldest = int(pixels.max())
    if boldest - background < _LEAST_CONTRAST or (background, boldest) == (0, 255):
        return pixels
    levels = (np.arange(256) - background) * (255 / (boldest - background))
    stretched: Pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[pixels]
    return stretched


def _crop_to_ink(pixels: Pixels, margin: float) -> Pixels:
    """Crop to the square around all ink at least half as bold as the boldest, plus ``margin`` times its side."""
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    background, boldest = _median(_border(grey)), int(grey.max())
    if boldest - background < _LEAST_CONTRAST:
        return pixels
    ink = grey > (background + boldest) // 2
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(bottom - top, right - left)
    side += 2 * max(1, round(side * margin))
    outside = background if grey is pixels else _median(_border(pixels))
    return _window(pixels, (top + bottom - side) // 2, (left + right - side) // 2, side, outside)


def _window(pixels: Pixels, top: int, left: int, side: int, outside: int) -> Pixels:
    """Return the ``side`` x ``side`` window at (top, left), padded with the grey level ``outside``."""
    height, width = pixels.shape[:2]
    out = np.full((side, side, *pixels.shape[2:]), outside, np.uint8)
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    out[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    return out


def _pad_to_square(pixels: Pixels) -> Pixels:
    """Centre the image on a square of its own background level."""
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    side = max(height, width)
    out = np.full((side, side, *pixels.shape[2:]), _median(_border(pixels)), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = pixels
    return out
