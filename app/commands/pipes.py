"""Handles readers that close a pipe early: `oneshot classes list | head`."""

from __future__ import annotations

import io
import sys
from typing import TextIO


class _Pipe(io.FileIO):
    """A stream whose reader may close it early. What is written after that is dropped."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            return len(memoryview(data))  # type: ignore[arg-type]


def let_readers_leave() -> None:
    r"""Let `| head` and the like close this program's output without an error, a traceback or another exit code.

    A verb has done its work when it prints, so its exit code is right whether or not its output is read. Characters
    outside the output's encoding are written as ``\u65e5``.
    """
    sys.stdout = _forgiving(sys.stdout)
    sys.stderr = _forgiving(sys.stderr)


def _forgiving(stream: TextIO | None) -> TextIO:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    if stream is None or stream.isatty():  # closed from the start, or a terminal, which is not closed early
        return stream  # type: ignore[return-value]
    stream.flush()
    pipe = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
    line_by_line = bool(getattr(stream, "line_buffering", False))
    return io.TextIOWrapper(pipe, stream.encoding, stream.errors, line_buffering=line_by_line)
