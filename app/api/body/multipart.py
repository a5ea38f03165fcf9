"""Reads a multipart/form-data body part by part from the stream, and enforces its limits while it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from app.errors import MalformedBodyError, TooManyPartsError


@dataclass
class Part:
    """One part of the form; `filename` is None for a text field. Bytes in it that are not UTF-8 become surrogates."""

    name: str = ""
    filename: str | None = None
    content_type: str | None = None
    data: bytearray = field(default_factory=bytearray)

    @property
    def is_file(self) -> bool:
        """Whether it is a file: it has a file name, or a content type other than text."""
        return self.filename is not None or not (self.content_type or "text/plain").startswith("text/")


async def read_parts(content_type: str, stream: AsyncIterator[bytes], max_parts: int) -> list[Part]:
    """Read all parts of the body. The stream must enforce the byte limit itself.

    Raises MalformedBodyError for a malformed body, TooManyPartsError at the first part too many.
    """
    collector = _Collector(max_parts)
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBodyError("The multipart body's content type names no boundary.")
    try:
        parser = collector.parser(boundary)
        async for chunk in stream:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBodyError(f"The multipart body is malformed: {error}") from None
    if not collector.complete:
        raise MalformedBodyError("The multipart body ends before its closing boundary.")
    return collector.parts


class _Collector:
    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._max_parts = max_parts
        self._header = bytearray()
        self._value = bytearray()

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise TooManyPartsError(f"The form has more than {self._max_parts} parts.")
        self.parts.append(Part())

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        part, name, value = self.parts[-1], bytes(self._header).lower(), bytes(self._value)
        if name == b"content-disposition":
            options = parse_options_header(value)[1]
            part.name = options.get(b"name", b"").decode("utf-8", "backslashreplace")
            if b"filename" in options:
                part.filename = options[b"filename"].decode("utf-8", "surrogateescape")
        elif name == b"content-type":
            part.content_type = value.decode("latin-1").strip().lower()
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        if not self.parts[-1].name:
            raise MalformedBodyError("A part of the form has no name.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _end(self) -> None:
        self.complete = True
