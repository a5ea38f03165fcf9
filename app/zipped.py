"""The files in a zip file that a stranger sent: bounded in number, in size and in what they unpack to."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from app.errors import (
    InvalidRequestError,
    MalformedBodyError,
    OneshotError,
    PayloadTooLargeError,
    TooManyPartsError,
    UndecodableImageError,
)

#: How each entry of the directory at a zip file's end begins.
_ENTRY = b"PK\x01\x02"
#: Folders, and files that nobody meant to send, may be so many times more than images.
_OTHERS = 4
#: The others can make a few bytes take gigabytes while they are unpacked.
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1


def read_zip(content: bytes, max_bytes: int, max_files: int) -> Iterator[tuple[str, bytes | OneshotError]]:
    """Yield name and content of each file, in the order of the directory; one that can't be unpacked is its error.

    Folders and hidden files (of a name, or in a folder, that begins with a dot, or in `__MACOSX`) are left out. Raises
    MalformedBodyError (no zip file), TooManyPartsError, and PayloadTooLargeError, once all together unpack to more than
    `max_bytes`, whatever sizes the directory claims.
    """
    if content.count(_ENTRY) > _OTHERS * max_files + 16:  # counted before a directory of millions is read
        raise TooManyPartsError(f"The zip file has far more than {max_files} entries.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise MalformedBodyError(f"The body is no whole zip file: {error}.") from None
    wanted = [(name, entry) for entry in archive.infolist() if (name := _name(entry)) is not None]
    if len(wanted) > max_files:
        raise TooManyPartsError(f"One batch may have {max_files} images (ONESHOT_MAX_ENROLL_IMAGES).")
    if not wanted:
        raise InvalidRequestError.at("body", "image", message="is missing: the zip file has no file", kind="missing")
    left = max_bytes
    for name, entry in wanted:
        data = _unpack(archive, entry, name, left)
        left -= len(data) if isinstance(data, bytes) else 0
        yield name, data


def _name(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename.replace("\\", "/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return None if entry.is_dir() or hidden else name


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, most: int) -> bytes | OneshotError:
    if entry.flag_bits & _ENCRYPTED:
        return UndecodableImageError("the file is encrypted", name)
    if entry.compress_type not in _METHODS:
        return UndecodableImageError(f"compression method {entry.compress_type} is not supported; use deflate", name)
    try:
        with archive.open(entry) as file:
            data = file.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        return UndecodableImageError(f"the file can't be unpacked: {error}", name)
    if len(data) > most:
        raise PayloadTooLargeError("The zip file unpacks to more than ONESHOT_MAX_ENROLL_BYTES.")
    return data
