"""Decode an uploaded image into 8-bit grey or RGB, or raise an error that says why it cannot be decoded."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from model import apart, heif, tiff
from model.essentials import END_OF_JPEG, CostlyFileError, essentials, lacks_end
from model.image_errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageLimits,
    TooManyPixelsError,
    UnsupportedFormatError,
)
from model.levels import to_8_bit
from model.metered import MeteredFile

__all__ = [
    "MEDIA_TYPES",
    "CorruptImageError",
    "EmptyImageError",
    "ImageError",
    "ImageLimits",
    "TooManyPixelsError",
    "UnsupportedFormatError",
    "decode_image",
    "is_quick",
]

MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PNG": "image/png",
        "JPEG": "image/jpeg",
        "WEBP": "image/webp",
        "BMP": "image/bmp",
        "GIF": "image/gif",
        "TIFF": "image/tiff",
        "PPM": "image/x-portable-anymap",
        "AVIF": "image/avif",
        "HEIF": "image/heic",
    }
)
"""The accepted formats by Pillow's name (PPM is the whole PBM/PGM/PPM family), with their media types."""

_READ_HERE: Final = tuple(name for name in MEDIA_TYPES if name not in {"AVIF", "HEIF"})
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
"""What Pillow's plugins raise on hostile bytes."""

# ImageLimits replaces Pillow's pixel cap, which warns at one size and refuses at another.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns about odd metadata in images that decode correctly.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Where Pillow finds an orientation, besides TIFF tags. Looking for one takes as long as decoding a small image.
_ORIENTATIONS: Final = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
#: Larger images are decoded one at a time: intermediate copies may take hundreds of megabytes.
_LARGE_PIXELS: Final = 4_000_000
_turn: Final = threading.Lock()
#: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if both sides keep this many pixels. That is faster, and still
#: larger than the input of any network here.
_DRAFT_SIDE: Final = 400
#: Memory of the decoder that uses most.
_BYTES_A_PIXEL: Final = 8
#: Scan data that changes the picture, whatever the Huffman tables are.
_NOISE: Final = bytes(range(1, 255)) * 4


def decode_image(data: bytes, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """Decode the first frame of an image file to mode ``L`` or ``RGB``; ``format`` is that of the file.

    A large JPEG is decoded at a fraction of its size. The EXIF orientation is applied. See `model.levels` for
    transparency and for grey of more than 8 bits.

    Raises:
        ImageError: one of its four subclasses.
        MemoryError: there is currently too little memory for this image.
    """
    if not data:
        raise EmptyImageError("the image is empty (0 bytes)")
    if container := heif.kind(data):
        return apart.decode(data, limits, container)
    try:
        shown = essentials(data)
    except CostlyFileError as error:
        raise CorruptImageError(str(error)) from error
    if lacks_end(shown):
        return _decode_endless_jpeg(shown, limits)
    return _decode(shown, limits)


def is_quick(data: bytes) -> bool:
    """Whether an image with these bytes is decoded in this process, which is fast for a small one."""
    return data[4:8] != b"ftyp" and not tiff.is_tiff(data)


def reduced(image: Image.Image) -> Image.Image:
    """Shrink a large image by the factor at which a JPEG would be decoded."""
    side = min(image.size)
    factor = next((factor for factor in (8, 4, 2) if side >= factor * _DRAFT_SIDE), 1)
    return image.reduce(factor) if factor > 1 else image


def _decode(data: bytes, limits: ImageLimits) -> Image.Image:
    with _open(data, limits) as image:
        width, height = image.size
        limits.check(width, height)
        if isinstance(image, TiffImageFile) and tiff.is_scrambled(image.tag_v2):
            raise UnsupportedFormatError(f"a TIFF image {tiff.kind(data)} is not supported")
        if isinstance(image, TiffImageFile) and any(tile[0] == "libtiff" for tile in image.tile):
            return apart.decode(data, limits, "TIFF")
        with _turn if width * height > _LARGE_PIXELS else nullcontext():
            return _decoded(image)


def decode_here(data: bytes, limits: ImageLimits, kind: str) -> Image.Image:
    """Decode in this process; for formats that `decode_image` passes to a separate one (`model.decoder`)."""
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            limits.check(*image.size)
            return _decoded(image)
    except _PILLOW_FAILURES as error:
        if isinstance(error, ImageError):
            raise
        raise CorruptImageError(f"the {kind} image cannot be decoded: {error}") from error


def _decode_endless_jpeg(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a JPEG without end-of-image marker, as in camera streams.

    The picture is complete if appended scan data does not change it. Otherwise the file is truncated.
    """
    decoded, other = (_decode(data + tail + END_OF_JPEG, limits) for tail in (b"", _NOISE))
    if decoded.tobytes() != other.tobytes():
        raise CorruptImageError("the JPEG image cannot be decoded: the image file is truncated")
    return decoded


def _decoded(image: Image.Image) -> Image.Image:
    pixels = image.width * image.height
    try:
        image.draft(None, (_DRAFT_SIDE, _DRAFT_SIDE))  # a no-op except for JPEG
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
    """Raise MemoryError if memory may be what failed: most decoders then report a broken file."""
    if "memory" in str(error).lower():
        raise MemoryError(str(error)) from error
    np.empty(_BYTES_A_PIXEL * pixels, np.uint8)  # raises if there is too little; never touched, so free


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    file = MeteredFile(data)
    try:
        image = Image.open(file, formats=_READ_HERE)
        file.opened = True
        return image
    except UnidentifiedImageError as error:
        if tiff.is_tiff(data):
            raise UnsupportedFormatError(f"a TIFF image {tiff.kind(data)} is not supported") from error
        accepted = ", ".join(MEDIA_TYPES)
        raise UnsupportedFormatError(f"the bytes are no image of an accepted format ({accepted})") from error
    except _PILLOW_FAILURES as error:
        _check_memory(limits.max_pixels, error)
        if "unsupported" in str(error).lower():
            raise UnsupportedFormatError(f"the image is of a kind that is not supported: {error}") from error
        raise CorruptImageError(f"the image's header cannot be read: {error}") from error
