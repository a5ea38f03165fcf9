"""Parses lines of JSON, `{"label": …, "image": base64}`, from a body while it arrives."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Sequence

from app.errors import EmptyImageError, InvalidRequestError, OneshotError, PayloadTooLargeError

_IMAGE = re.compile(rb'"image"\s*:\s*"')
_BLANK_LINES = re.compile(rb"\n\s*\n")
#: Most bytes of a line besides its image. The longest label, with every character escaped, takes 3 kB.
_REST_BYTES = 16_384
#: Bytes of Base64 decoded in one call: a longer call would block other threads.
_PIECE = 4 * 65_536

#: A line's label and image, or its error.
Parsed = tuple[str, bytes] | OneshotError


class Lines:
    """Splits a body into its non-blank lines. Of a line that is too long, only its existence is kept."""

    def __init__(self, max_image_bytes: int) -> None:
        self._longest = 4 * max_image_bytes // 3 + _REST_BYTES
        self._rest = bytearray()
        self._too_long = False
        self.count = 0

    @property
    def held(self) -> int:
        """Bytes of the last line, which is not complete yet."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The lines that end in the chunk, None for one that is too long."""
        *ended, last = _BLANK_LINES.sub(b"\n", chunk).split(b"\n")
        lines: list[bytes | None] = []
        if ended:
            self._add(ended[0])
            lines = self.finish()
            whole = list(filter(bytes.strip, ended[1:]))
            lines += [line if len(line) <= self._longest else None for line in whole]
            self.count += len(whole)
        self._add(last)
        return lines

    def finish(self) -> list[bytes | None]:
        """The last line, if it has no line break."""
        line = None if self._too_long else bytes(self._rest)
        self._rest.clear()
        self._too_long = False
        if line is not None and not line.strip():
            return []
        self.count += 1
        return [line]

    def _add(self, piece: bytes) -> None:
        self._too_long = self._too_long or len(self._rest) + len(piece) > self._longest
        if self._too_long:
            self._rest.clear()
        else:
            self._rest += piece


def parse_lines(lines: Sequence[bytes | None], first: int, max_image_bytes: int) -> list[Parsed]:
    """Label and image of each line, or its error. `first` is the index of the first line in the body."""
    return [_parse(line, place, max_image_bytes) for place, line in enumerate(lines, first)]


def _parse(line: bytes | None, place: int, max_image_bytes: int) -> Parsed:
    too_large = PayloadTooLargeError(
        f"image[{place}]: the image has more than {max_image_bytes} bytes (ONESHOT_MAX_UPLOAD_BYTES)"
    )
    if line is None:
        return too_large
    try:
        rest, encoded = _take_image_out(line)
        content = json.loads(rest, parse_int=float)  # no numbers are expected; `int` would fail above 4,300 digits
        if not isinstance(content, dict) or set(content) != {"label", "image"}:
            raise ValueError("is not an object with the keys label and image")
        if not isinstance(content["label"], str) or content["image"] != "":
            raise ValueError("label and image must be strings, each there once")
        image = _decode(encoded)
    except (ValueError, RecursionError) as error:
        return InvalidRequestError.at("body", f"line {place + 1}", message=str(error), kind="line")
    if not image:
        return EmptyImageError("the file is empty (0 bytes)", f"image[{place}]")
    return too_large if len(image) > max_image_bytes else (content["label"], image)


def _take_image_out(line: bytes) -> tuple[bytes, memoryview]:
    """Return the line with an empty image, and the image, still encoded.

    JSON's parser blocks other threads, so it gets a few bytes only, and megabytes are not copied. An unescaped key in
    quotes can't be inside a string; if it isn't the line's own key, the rest is not valid JSON. Raises ValueError for a
    line with too much besides the image.
    """
    found = _IMAGE.search(line, 0, _REST_BYTES)
    start = found.end() if found else 0
    end = line.find(b'"', start) if found else 0
    if len(line) - (end - start) > _REST_BYTES:
        raise ValueError(f"has more than {_REST_BYTES} bytes besides the image")
    if not start or end < 0:
        return line, memoryview(b"")
    encoded = memoryview(line)[start:end]
    if line.find(b"\\", start, end) >= 0:  # some encoders escape / and +
        encoded = memoryview(json.loads(b'"%b"' % bytes(encoded)).encode())
    return line[:start] + line[end:], encoded


def _decode(encoded: memoryview) -> bytes:
    """Decode Base64. Raises ValueError."""
    pieces = [encoded[start : start + _PIECE] for start in range(0, len(encoded), _PIECE)]
    try:
        if any(b"=" in bytes(piece[-2:]) for piece in pieces[:-1]):
            raise ValueError("the image is no Base64: padding in the middle")
        return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in pieces)
    except binascii.Error as error:
        raise ValueError(f"the image is no Base64: {error}") from None
