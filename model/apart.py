"""Decode images in separate processes where the decoder cannot be interrupted.

The cost of such a decoder cannot be predicted from the file's bytes and pixels, and a thread cannot be killed. The
process therefore runs under time and memory limits (`model.decoder`). If it dies, the next image starts another.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from PIL import Image

from model.image_errors import CorruptImageError, ImageError, ImageLimits

#: Limits (pixels, side, bytes of memory, seconds), length of the data, Pillow's name of the format.
REQUEST: Final = struct.Struct(">QQQdQ8s")
#: Limits for decoding one image: CPU seconds and address space.
MAX_SECONDS = 10.0
MAX_BYTES = 2 * 2**30

MOST: Final = min(4, os.cpu_count() or 1)
_ROOT: Final = str(Path(__file__).parents[1])
_COMMAND: Final = f"import sys; sys.path.insert(0, {_ROOT!r}); from model.decoder import main; main()"
_LONGEST_LINE: Final = 65_536
#: Exit code of a process killed for lack of memory.
_KILLED: Final = -9
_ERRORS: Final = {kind.__name__: kind for kind in ImageError.__subclasses__()}


class _GoneError(Exception):
    """The process exited before it took the image, after its idle timeout."""


def decode(data: bytes, limits: ImageLimits, kind: str) -> Image.Image:
    """See `model.images.decode_image`; `kind` is Pillow's name of the format. Thread-safe."""
    return decoders.decode(data, limits, kind)


class Decoders:
    """A pool of up to `MOST` decoder processes, started on demand; `idle` holds those not in use."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(MOST)
        self.idle: list[Decoder] = []

    def decode(self, data: bytes, limits: ImageLimits, kind: str) -> Image.Image:
        """See `decode`."""
        with self._places:
            while True:
                try:
                    decoder = self.idle.pop()
                except IndexError:
                    return self._ask(Decoder(), data, limits, kind)
                with suppress(_GoneError):
                    return self._ask(decoder, data, limits, kind)

    def _ask(self, decoder: Decoder, data: bytes, limits: ImageLimits, kind: str) -> Image.Image:
        try:
            found = decoder.decode(data, limits, kind)
        except ImageError:
            if decoder.is_alive:
                self.idle.append(decoder)
            raise
        except BaseException:
            decoder.close()
            raise
        self.idle.append(decoder)
        return found

    def close(self) -> None:
        """End the idle processes."""
        while self.idle:
            self.idle.pop().close()


class Decoder:
    """One decoder process."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ONESHOT_")}
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, and a program of our own
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # C decoders print warnings that quote the file
            env=environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: PT018, S101 - pipes
        self._input, self._output = self.process.stdin, self.process.stdout

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self.process.poll() is None

    def decode(self, data: bytes, limits: ImageLimits, kind: str) -> Image.Image:
        """See `decode`. Raises _GoneError if the process had already exited, MemoryError if it was killed."""
        allowed = limits.max_pixels, limits.max_side, MAX_BYTES, MAX_SECONDS
        try:
            self._input.write(REQUEST.pack(*allowed, len(data), kind.encode()))
            self._input.write(data)
            self._input.flush()
        except BrokenPipeError:
            self.close()
            raise _GoneError from None
        line = self._output.readline(_LONGEST_LINE)
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else self._end()
        if error := answer.get("error"):
            raise _ERRORS.get(error, CorruptImageError)(answer["detail"])
        size, mode = (int(answer["width"]), int(answer["height"])), str(answer["mode"])
        limits.check(*size)
        pixels = self._output.read(size[0] * size[1] * len(mode))
        image = Image.frombytes(mode, size, pixels)
        image.format = kind
        return image

    def _end(self) -> dict[str, Any]:
        """Reap the process and raise the error that its exit code stands for."""
        code = self.process.wait()
        self.close()
        if code == _KILLED:
            raise MemoryError("the system ended a decoder")
        if code == -getattr(signal, "SIGPROF", 0):
            raise CorruptImageError(f"the image cannot be decoded: it takes more than {MAX_SECONDS:g} seconds")
        if code < 0:
            raise CorruptImageError(f"the image cannot be decoded: its decoder ended by signal {-code}")
        raise RuntimeError(f"a decoder ended with exit code {code}")

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._input.close()
        self._output.close()
        self.process.kill()
        self.process.wait()


def _begin_anew() -> None:
    global decoders  # noqa: PLW0603 - a forked process must not use its parent's pipes
    decoders = Decoders()


@atexit.register
def _end_all() -> None:
    decoders.close()


decoders = Decoders()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
