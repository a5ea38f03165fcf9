"""Forms made to take time: in every allowed release, the parser bounds the cost of a part's header."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.api.body.multipart import read_parts
from app.errors import MalformedBodyError, OneshotError

MB = 2**20
HEAD = b'Content-Disposition: form-data; name="a"'
END = b"\r\n\r\nvalue\r\n--b--\r\n"
GOOD = b"--b\r\n" + HEAD + END

HOSTILE = {
    "many headers": b"--b\r\n" + HEAD + b"\r\nx: y" * MB + END,
    "a long value": b"--b\r\n" + HEAD + b"\r\nx: " + b"y" * 8 * MB + END,
    "a long name": b"--b\r\n" + HEAD + b"\r\n" + b"x" * 8 * MB + b": y" + END,
    "many parameters": b"--b\r\n" + HEAD + b"; x=y" * MB + END,
    "many separators": b"--b\r\n" + HEAD + b";" * 8 * MB + END,
}
PADDED = {
    "lines before": b"\r\n" * 4 * MB + GOOD,
    "lines after": GOOD + b"\r\n" * 4 * MB,
    "text after": GOOD + b"x" * 8 * MB,
}


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


def read(body: bytes) -> tuple[object, float]:
    """The result (names of parts, or the error's type), and the CPU time."""
    began = time.thread_time()
    try:
        parts = asyncio.run(read_parts("multipart/form-data; boundary=b", chunks(body), 10))
    except OneshotError as error:
        return type(error), time.thread_time() - began
    return [part.name for part in parts], time.thread_time() - began


@pytest.mark.parametrize("name", HOSTILE)
def test_a_head_without_end_is_refused_at_once(name: str):
    found, seconds = read(HOSTILE[name])
    assert found is MalformedBodyError
    assert seconds < 0.5


@pytest.mark.parametrize("name", PADDED)
def test_what_is_around_the_parts_costs_nothing(name: str):
    found, seconds = read(PADDED[name])
    assert found == ["a"]
    assert seconds < 0.5
