"""Decode an uploaded image into 8-bit grey or RGB, or say exactly why that is not possible.

ImageError
├── EmptyImageError         no bytes at all
├── UnsupportedFormatError  not one of the formats in MEDIA_TYPES, or an unusual kind of one
├── CorruptImageError       such a format, but it cannot be decoded
└── TooManyPixelsError      more pixels than allowed, or a longer side; found before decoding them
"""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from model import tiff
from model.essentials import END_OF_JPEG, CostlyFileError, essentials, lacks_end
from model.levels import to_8_bit
from model.metered import MeteredFile

MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PNG": "image/png",
        "JPEG": "image/jpeg",
        "WEBP": "image/webp",
        "BMP": "image/bmp",
        "GIF": "image/gif",
        "TIFF": "image/tiff",
        "PPM": "image/x-portable-anymap",
    }
)
"""The accepted formats by Pillow's name (PPM is the whole PBM/PGM/PPM family), with their media types."""

_PILLOW_FAILURES: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Pillow's plugins raise on hostile bytes; all of it means one thing to the caller."""

# ImageLimits is the one pixel cap; Pillow's own would warn at one size and refuse at another.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of odd metadata in images that decode well.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Where Pillow finds an orientation, besides TIFF's tags: looking for one takes as long as decoding a small image.
_ORIENTATIONS: Final = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
#: An image of more is decoded one at a time: its copies on the way may take hundreds of megabytes.
_LARGE_PIXELS: Final = 4_000_000
_turn: Final = threading.Lock()
#: A JPEG is decoded at the half, quarter or eighth of its size at which both sides keep so many pixels: many times the
#: input of any network here, in a fraction of the time.
_DRAFT_SIDE: Final = 400
#: What the most wasteful of the decoders takes.
_BYTES_A_PIXEL: Final = 8
#: Bits of a scan that show something, whatever its tables say.
_NOISE: Final = bytes(range(1, 255)) * 4


class ImageError(ValueError):
    """The bytes are not an image that can be used; ``str(error)`` says why."""


class EmptyImageError(ImageError):
    """There are no bytes."""


class UnsupportedFormatError(ImageError):
    """The bytes are of no accepted format, or of a kind of it that is not supported."""


class CorruptImageError(ImageError):
    """The format is accepted, but the image cannot be decoded."""


class TooManyPixelsError(ImageError):
    """The image has more pixels than the limit, or a longer side."""


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: ``max_pixels`` is width x height; both are checked before the pixels are decoded.

    Each row takes memory of its own, so that 1 x 40,000,000 pixels would take thirty times the bytes of a square.
    """

    max_pixels: int = 40_000_000
    max_side: int = 20_000

    def check(self, width: int, height: int) -> None:
        """Raise TooManyPixelsError for an image that is larger."""
        if width * height > self.max_pixels:
            raise TooManyPixelsError(
                f"the image is {width}x{height} = {width * height} pixels; at most {self.max_pixels} are accepted"
            )
        if max(width, height) > self.max_side:
            raise TooManyPixelsError(
                f"the image is {width}x{height} pixels; at most {self.max_side} are accepted on each side"
            )


def decode_image(data: bytes, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """Decode the first frame of an image file to mode ``L`` or ``RGB``; its ``format`` is that of the file.

    A large JPEG is decoded at a fraction of its size. The EXIF orientation is applied; see
    `model.levels` for transparency and for grey of more than 8 bits.

    Raises:
        ImageError: one of its four subclasses.
        MemoryError: there is not enough for this image now.
    """
    if not data:
        raise EmptyImageError("the image is empty (0 bytes)")
    try:
        shown = essentials(data)
    except CostlyFileError as error:
        raise CorruptImageError(str(error)) from error
    if lacks_end(shown):
        return _decode_endless_jpeg(shown, limits)
    return _decode(shown, limits)


def _decode(data: bytes, limits: ImageLimits) -> Image.Image:
    with _open(data, limits) as image:
        width, height = image.size
        limits.check(width, height)
        if isinstance(image, TiffImageFile) and tiff.is_scrambled(image.tag_v2):
            raise UnsupportedFormatError(f"a TIFF image {tiff.kind(data)} is not supported")
        with _turn if width * height > _LARGE_PIXELS else nullcontext():
            return _decoded(image)


def _decode_endless_jpeg(data: bytes, limits: ImageLimits) -> Image.Image:
    """Streams of cameras leave out the mark of the end. Where the picture is whole, what follows does not change it."""
    decoded, other = (_decode(data + tail + END_OF_JPEG, limits) for tail in (b"", _NOISE))
    if decoded.tobytes() != other.tobytes():
        raise CorruptImageError("the JPEG image cannot be decoded: the image file is truncated")
    return decoded


def _decoded(image: Image.Image) -> Image.Image:
    pixels = image.width * image.height
    try:
        image.draft(None, (_DRAFT_SIDE, _DRAFT_SIDE))  # only JPEG's decoder does anything
        image.load()
        if hasattr(image, "tag_v2") or not _ORIENTATIONS.isdisjoint(image.info):
            ImageOps.exif_transpose(image, in_place=True)
        decoded = to_8_bit(image)
        decoded.format = image.format
        return decoded
    except _PILLOW_FAILURES as error:
        _check_memory(pixels, error)
        raise CorruptImageError(f"the {image.format} image cannot be decoded: {error}") from error


def _check_memory(pixels: int, error: Exception) -> None:
    """Raise MemoryError where that may be what failed: most decoders call it a broken file."""
    if "memory" in str(error).lower():
        raise MemoryError(str(error)) from error
    np.empty(_BYTES_A_PIXEL * pixels, np.uint8)  # which is not touched, so it costs nothing


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    file = MeteredFile(data)
    try:
        image = Image.open(file, formats=tuple(MEDIA_TYPES))
        file.opened = True
        return image
    except UnidentifiedImageError as error:
        if tiff.is_tiff(data):
            raise UnsupportedFormatError(f"a TIFF image {tiff.kind(data)} is not supported") from error
        accepted = ", ".join(MEDIA_TYPES)
        raise UnsupportedFormatError(f"the bytes are no image of an accepted format ({accepted})") from error
    except _PILLOW_FAILURES as error:
        _check_memory(limits.max_pixels, error)
        raise CorruptImageError(f"the image's header cannot be read: {error}") from error
