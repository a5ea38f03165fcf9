"""The process that decodes images one by one; `model.apart` starts it and talks to it over pipes."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from PIL import Image

from model.apart import REQUEST
from model.image_errors import CorruptImageError, ImageError, ImageLimits
from model.images import decode_here, reduced

#: The process exits after this long without a request.
_IDLE_SECONDS: Final = 60.0
_READ_BYTES: Final = 2**20


def main() -> None:
    """Answer requests until stdin is closed or the idle timeout passes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keep what a library prints out of the answers
    _be_the_first_to_go()
    while _is_asked() and (head := _read(REQUEST.size)):
        max_pixels, max_side, max_bytes, max_seconds, length, kind = REQUEST.unpack(head)
        data = _read(length)
        _limit_memory(max_bytes)
        _limit_time(max_seconds)
        told, pixels = _answer(data, ImageLimits(max_pixels, max_side), kind.rstrip(b"\0").decode())
        _limit_time(0)
        answers.write(json.dumps(told).encode() + b"\n" + pixels)
        answers.flush()


def _is_asked() -> bool:
    """Wait for input or end of file; False after the idle timeout."""
    return sys.platform == "win32" or bool(select.select([0], [], [], _IDLE_SECONDS)[0])


def _answer(data: bytes, limits: ImageLimits, kind: str) -> tuple[dict[str, Any], bytes]:
    try:
        image = _decode(data, limits, kind)
        return {"mode": image.mode, "width": image.width, "height": image.height}, image.tobytes()
    except ImageError as error:
        return _refusal(error)
    except MemoryError:
        return _refusal(CorruptImageError(f"the {kind} image cannot be decoded: it takes too much memory"))
    except Exception as error:
        return _refusal(CorruptImageError(f"the {kind} image cannot be decoded: {error}"))


def _decode(data: bytes, limits: ImageLimits, kind: str) -> Image.Image:
    if kind == "HEIF":
        importlib.import_module("pillow_heif").register_heif_opener(thumbnails=False)
    return reduced(decode_here(data, limits, kind))


def _refusal(error: ImageError) -> tuple[dict[str, Any], bytes]:
    return {"error": type(error).__name__, "detail": str(error)[:1000]}, b""


def _read(length: int) -> bytes:
    """Read exactly ``length`` bytes, or return none if the pipe is closed."""
    data = bytearray()
    while len(data) < length:
        piece = os.read(0, min(_READ_BYTES, length - len(data)))
        if not piece:
            return b""
        data += piece
    return bytes(data)


def _be_the_first_to_go() -> None:
    """Have the kernel kill this process first when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _limit_memory(most: int) -> None:
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not on every system

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _limit_time(seconds: float) -> None:
    """Have a signal end this process after ``seconds`` of CPU time; 0 cancels."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)
