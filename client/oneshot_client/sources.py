"""What callers may pass as an image, and the bytes that are sent for it."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL import Image

#: An encoded image's bytes, the path of its file, or a Pillow image (sent without loss).
ImageSource: TypeAlias = "bytes | str | PathLike[str] | Image.Image"

_AS_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"})
#: Modes that neither PNG nor TIFF supports, and equivalent ones.
_CONVERTED = {"I;16L": "I", "I;16N": "I", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


def read_source(image: ImageSource) -> tuple[str, bytes]:
    """Return a name for messages, and the bytes.

    Raises OSError when the file can't be read, ValueError for a Pillow image that can't be encoded or an invalid path,
    TypeError for anything else.
    """
    if isinstance(image, bytes):
        return "image", image
    if isinstance(image, str | PathLike):
        path = Path(image)
        return _sendable(path.name), path.read_bytes()
    if hasattr(image, "save"):
        return "image", _encoded(image)
    raise TypeError(f"an image is bytes, a path or a Pillow image, not {type(image).__name__}")


def _sendable(name: str) -> str:
    """A file name as Unicode text. Bytes that are not UTF-8 are written as ``\\xfc``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _encoded(image: Image.Image) -> bytes:
    """Encode the image to a file, rotated according to its EXIF orientation, as the service does with files."""
    from PIL import ImageCms, ImageOps  # noqa: PLC0415 - a caller with such an image has Pillow

    image = ImageOps.exif_transpose(image)
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    image = image.convert(_CONVERTED[image.mode]) if image.mode in _CONVERTED else image
    if image.mode not in _AS_PNG | {"I", "F"}:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if image.mode in _AS_PNG else "TIFF")
    return buffer.getvalue()
