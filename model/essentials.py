"""Strip a JPEG or PNG file to the parts that define the picture, before a decoder sees it.

Colour profiles, texts, previews and second pictures cost time and memory. Damaged or very large ones make the decoder
fail, although viewers ignore them. Of the metadata only what may hold the orientation is kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

END_OF_JPEG: Final = b"\xff\xd9"
#: No real picture has more scans. A scan of a few bytes costs a pass over all pixels.
MAX_SCANS: Final = 100
_MAX_SEGMENTS: Final = 10_000
#: Longer metadata is dropped; a camera writes a few kilobytes, or up to 64 with a preview.
_MAX_METADATA: Final = 65_536
_MAX_INFLATED: Final = 2**20

_JPEG: Final = b"\xff\xd8\xff"
_SOS, _EOI, _APP0, _APP1, _APP14, _APP15, _COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
#: Matches no stuffed 0xFF bytes (followed by 0) and no restart markers, which occur inside a scan.
_MARKER: Final = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_NO_LENGTH: Final = frozenset({0x01, 0xD8, _EOI})
_JPEG_METADATA: Final = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0")

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_OPTIONAL: Final = frozenset({b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
#: Text chunks that may hold the orientation.
_PNG_TEXTS: Final = frozenset({b"Raw profile type exif", b"XML:com.adobe.xmp"})


class CostlyFileError(ValueError):
    """Decoding the file would cost far more than any real picture."""


def essentials(data: bytes) -> bytes:
    """Return the stripped file, or the bytes unchanged if they are neither JPEG nor PNG.

    Raises CostlyFileError for a JPEG with too many scans or segments.
    """
    if data.startswith(_JPEG):
        return _essential_jpeg(data)
    return _essential_png(data) if data.startswith(_PNG) else data


def lacks_end(shown: bytes) -> bool:
    """Whether the stripped file is a JPEG without an end-of-image marker."""
    return shown.startswith(_JPEG) and not shown.endswith(END_OF_JPEG)


def _essential_jpeg(data: bytes) -> bytes:
    left_out, seen, scans, end = list[tuple[int, int]](), set[bytes](), 0, len(data)
    for number, (marker, start, stop) in enumerate(_segments(data)):
        if number == _MAX_SEGMENTS:
            raise CostlyFileError(f"the JPEG has more than {_MAX_SEGMENTS} segments")
        if marker == _EOI:
            end = stop
            break
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise CostlyFileError(f"the JPEG has more than {MAX_SCANS} scans")
        elif scans == 0 and not _is_needed(marker, data[start + 4 : start + 36], seen):
            left_out.append((start, stop))
    return _without(data, left_out, end)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each marker with the start and end of its segment; for a scan, of its header."""
    place = 2
    while found := _MARKER.search(data, place):
        marker, start, place = found[1][0], found.end() - 2, found.end()
        if marker not in _NO_LENGTH:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
        yield marker, start, place


def _is_needed(marker: int, content: bytes, seen: set[bytes]) -> bool:
    """Whether a segment before the first scan is needed to decode, or is the first of its kind of metadata."""
    if marker == _APP1:
        kind = next((kind for kind in _JPEG_METADATA if content.startswith(kind)), None)
        if kind is None or kind in seen:
            return False
        seen.add(kind)
        return True
    return marker in {_APP0, _APP14} or not (_APP0 <= marker <= _APP15 or marker == _COMMENT)


def _essential_png(data: bytes) -> bytes:
    left_out, place, is_end = list[tuple[int, int]](), len(_PNG), False
    while place + 12 <= len(data) and not is_end:
        length, kind = struct.unpack_from(">I4s", data, place)
        stop = place + 12 + length
        is_optional = bool(kind[0] & 0x20)
        if is_optional and not _is_sound(kind, memoryview(data)[place + 4 : stop], length):
            left_out.append((place, stop))
        place, is_end = stop, kind == b"IEND"
    return _without(data, left_out, min(place, len(data)) if is_end else len(data))


def _is_sound(kind: bytes, chunk: memoryview, length: int) -> bool:
    """Whether an optional chunk may affect how the picture looks, is undamaged, and is cheap to read."""
    if kind not in _PNG_OPTIONAL or length > _MAX_METADATA or len(chunk) != length + 8:
        return False
    if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    if kind in {b"tRNS", b"eXIf"}:
        return True
    name, _, rest = bytes(chunk[4:-4]).partition(b"\0")
    if name not in _PNG_TEXTS:
        return False
    if kind == b"zTXt":
        return _is_small(rest[1:])
    return kind == b"tEXt" or not rest.startswith(b"\1")


def _is_small(deflated: bytes) -> bool:
    inflating = zlib.decompressobj()
    try:
        return len(inflating.decompress(deflated, _MAX_INFLATED)) < _MAX_INFLATED
    except zlib.error:
        return False


def _without(data: bytes, left_out: list[tuple[int, int]], end: int) -> bytes:
    if not left_out and end == len(data):
        return data
    view, begin, kept = memoryview(data), 0, list[memoryview]()
    for start, stop in left_out:
        kept.append(view[begin:start])
        begin = stop
    kept.append(view[begin:end])
    return b"".join(kept)
