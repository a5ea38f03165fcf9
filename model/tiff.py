"""Describe a TIFF file's pixel format, for error messages about the variants that Pillow can't read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_BEGINNINGS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 258, 259, 262, 277, 284, 339
_FORMATS: Final = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin like a TIFF file."""
    return data.startswith(_BEGINNINGS)


def is_scrambled(tags: Mapping[int, Any]) -> bool:
    """Whether Pillow would decode the file to a wrong picture: planar samples of more than 8 bits."""
    return tags.get(_PLANES) == 2 and max(tags.get(_BITS, (1,))) > 8


def kind(data: bytes) -> str:
    """Describe in words how the pixels of the first picture are stored."""
    header = data[:16] if data[2:3] == b"+" or data[3:4] == b"+" else data[:8]
    try:
        tags = ImageFileDirectory_v2(header)
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return _words(tags)
    except Exception:
        return "that can't be read"


def _words(tags: Mapping[int, Any]) -> str:
    bits, formats = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
    sample = f"{'/'.join(sorted({str(each) for each in bits}))}-bit {_FORMATS.get(formats[0], 'other')} samples"
    planes = ", each in a plane of its own" if tags.get(_PLANES) == 2 else ""
    numbers = f"photometric interpretation {tags.get(_PHOTOMETRIC, 'missing')}, compression {tags.get(_COMPRESSION, 1)}"
    return f"of {tags.get(_SAMPLES, 1)} {sample} a pixel{planes} ({numbers})"
