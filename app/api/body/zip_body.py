"""Reads the files of an untrusted zip file, with limits on their number, their size and what they unpack to."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from app.api.body.blocks import Blocks
from app.errors import (
    InvalidRequestError,
    MalformedBodyError,
    OneshotError,
    PayloadTooLargeError,
    TooManyPartsError,
    UndecodableImageError,
)
from model.folders import LABELS_FILE, exported_labels, is_image, label_of, printable

#: Signature of an entry in the directory at a zip file's end.
_ENTRY = b"PK\x01\x02"
#: Limit on entries, as a multiple of that on images. The others are folders, and files sent by accident.
_OTHERS = 4
#: With other methods, a few bytes could take gigabytes of memory to unpack.
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED, _UTF8 = 0x1, 0x800
#: Info-ZIP's extra field with the Unicode name, and its head: version, and the checksum of the name it replaces.
_UNICODE_PATH, _UNICODE_HEAD = 0x7075, struct.Struct("<BI")
_MAX_LABELS_BYTES = 4 * 2**20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)


@dataclass(frozen=True)
class ZippedFile:
    """One file of an archive: its name for messages, its label, and the most bytes that it unpacks to."""

    name: str
    label: str
    size: int
    entry: zipfile.ZipInfo


class ZipArchive:
    """The images in a zip file, in the order of their position. Methods block: call them in a thread.

    Images and their labels are found as in a folder that is enrolled (`model.folders`). `passed_over` is the number of
    other files. Raises MalformedBodyError (not a zip file), TooManyPartsError, InvalidRequestError (no images).
    """

    def __init__(self, content: Blocks, max_bytes: int, max_files: int) -> None:
        self._content, self._left = content, max_bytes
        if content.count(_ENTRY) > _OTHERS * max_files + 16:  # before a directory of millions of entries is parsed
            raise TooManyPartsError(f"The zip file has far more than {max_files} entries.")
        try:
            self._archive = zipfile.ZipFile(io.BufferedReader(content))
        except _BROKEN as error:
            raise MalformedBodyError(f"The body is no whole zip file: {error}.") from None
        entries = [entry for entry in self._archive.infolist() if not entry.is_dir()]
        named = [(entry, PurePosixPath(file_name(entry)).parts) for entry in entries]
        wanted = [(entry, inside) for entry, inside in named if inside and is_image(inside)]
        if len(wanted) > max_files:
            raise TooManyPartsError(f"One batch may have {max_files} images (ONESHOT_MAX_ENROLL_IMAGES).")
        if not wanted:
            raise InvalidRequestError.at(
                "body", "image", message="is missing: the zip file has no image", kind="missing"
            )
        labels = self._labels(next((entry for entry, inside in named if inside == (LABELS_FILE,)), None))
        self.passed_over = len(entries) - len(wanted) - bool(labels)
        self.files = [
            ZippedFile(printable("/".join(inside)), label_of(inside, labels), entry.file_size, entry)
            for entry, inside in sorted(wanted, key=lambda each: each[0].header_offset)
        ]

    def read(self, files: list[ZippedFile]) -> Iterator[bytes | OneshotError]:
        """Yield the content of each file, at most its `size` bytes, or the error of unpacking it.

        Raises PayloadTooLargeError once the total of all files read is more than `max_bytes`.
        """
        for file in files:
            data = self._unpack(file, self._left)
            self._left -= len(data) if isinstance(data, bytes) else 0
            yield data

    def let_go(self, following: ZippedFile) -> int:
        """Free the body up to the start of that file. Return the number of bytes freed."""
        return self._content.free(following.entry.header_offset)

    def _unpack(self, file: ZippedFile, most: int) -> bytes | OneshotError:
        entry = file.entry
        if entry.flag_bits & _ENCRYPTED:
            return UndecodableImageError("the file is encrypted", file.name)
        if entry.compress_type not in _METHODS:
            method = f"compression method {entry.compress_type}"
            return UndecodableImageError(f"{method} is not supported; use deflate", file.name)
        try:
            with self._archive.open(entry) as opened:
                data = opened.read(most + 1)
        except _BROKEN as error:
            return UndecodableImageError(f"the file can't be unpacked: {printable(str(error))}", file.name)
        if len(data) > most:
            raise PayloadTooLargeError("The zip file unpacks to more than ONESHOT_MAX_ENROLL_BYTES.")
        return data

    def _labels(self, entry: zipfile.ZipInfo | None) -> dict[str, str]:
        """The labels of the sub-folders, if the archive is from `oneshot export`."""
        if entry is None:
            return {}
        data = self._unpack(ZippedFile(LABELS_FILE, "", entry.file_size, entry), _MAX_LABELS_BYTES)
        try:
            if isinstance(data, OneshotError):
                raise ValueError(data.detail)
            return exported_labels(data, LABELS_FILE)
        except ValueError as error:
            raise InvalidRequestError.at("body", LABELS_FILE, message=str(error)) from None


def file_name(entry: zipfile.ZipInfo) -> str:
    r"""The entry's name, with ``/`` as separator; bytes in an unknown encoding become surrogates.

    A name without the UTF-8 flag should be in code page 437, but is usually in the encoding of the machine that made
    the archive. Info-ZIP's Unicode field is reliable, and so is valid UTF-8, since other encodings rarely produce it by
    chance. Anything else is ambiguous and not guessed: a label with surrogates is refused.
    """
    raw = entry.orig_filename
    if not entry.flag_bits & _UTF8:
        sent = raw.encode("cp437")
        raw = _unicode_path(entry.extra, sent) or sent.decode("utf-8", "surrogateescape")
    return raw.partition("\0")[0].replace("\\", "/")


def _unicode_path(extra: bytes, sent: bytes) -> str | None:
    """The name in Info-ZIP's field, if there is one and it was made for exactly this name."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) == length >= _UNICODE_HEAD.size:
            version, checksum = _UNICODE_HEAD.unpack_from(field)
            if version == 1 and checksum == zlib.crc32(sent):
                try:
                    return field[_UNICODE_HEAD.size :].decode("utf-8")
                except UnicodeDecodeError:
                    return None
    return None
