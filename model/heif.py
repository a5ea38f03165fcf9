"""Detection of HEIC and AVIF files, and whether this installation can read them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from PIL import features

from model.image_errors import UnsupportedFormatError

_AVIF: Final = frozenset({b"avif", b"avis"})
_HEIF: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
#: Enough for the brands of any real file.
_MOST_BRANDS_BYTES: Final = 256


def kind(data: bytes) -> str | None:
    """Pillow's name of the format, None for other files. Raises UnsupportedFormatError if it can't be read here."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), _MOST_BRANDS_BYTES)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    if brands & _AVIF:
        if not features.check("avif"):
            raise UnsupportedFormatError("the bytes are an AVIF image, which the Pillow that is installed can't read")
        return "AVIF"
    if brands & _HEIF:
        if find_spec("pillow_heif") is None:
            raise UnsupportedFormatError(
                "the bytes are an HEIC image, which is read with an extra that is not installed: "
                "pip install 'oneshot[heic]'; or send it as JPEG"
            )
        return "HEIF"
    return None
