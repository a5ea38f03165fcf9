"""Formats decoded in a separate process: the picture is the same, and the limits hold."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from model import apart
from model.images import (
    CorruptImageError,
    ImageLimits,
    TooManyPixelsError,
    UnsupportedFormatError,
    decode_image,
    is_quick,
)
from testing.factories import draw_character, encode

CHARACTER = draw_character(3, size=200)
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF here")


@pytest.fixture
def decoders() -> Iterator[list[apart.Decoder]]:
    """The idle processes; none at first."""
    apart.decoders.close()
    yield apart.decoders.idle
    apart.decoders.close()


def unlike(data: bytes, image: Image.Image = CHARACTER) -> float:
    return float(np.abs(np.asarray(decode_image(data).convert("L"), float) - np.asarray(image, float)).mean())


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"])
def test_a_compressed_tiff(compression):
    image = CHARACTER.convert("1") if compression == "group4" else CHARACTER
    data = encode(image, "TIFF", compression=compression)
    assert decode_image(data).format == "TIFF"
    assert unlike(data, image.convert("L")) < 2
    assert not is_quick(data)


@needs_avif
def test_an_avif_and_its_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(CHARACTER.transpose(Image.Transpose.ROTATE_90).convert("RGB"), "AVIF", exif=exif)
    assert decode_image(data).format == "AVIF"
    assert unlike(data) < 3
    assert not is_quick(data)


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="pillow-heif, the extra heic, is not installed")
def test_an_heic():
    importlib.import_module("pillow_heif").register_heif_opener()
    assert unlike(encode(CHARACTER.convert("RGB"), "HEIF", quality=90)) < 3


def container(*brands: bytes) -> bytes:
    content = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 8 + len(content)) + b"ftyp" + content + bytes(100)


@pytest.mark.parametrize("brands", [(b"heic",), (b"mif1", b"mif1", b"heic"), (b"hevc",)])
def test_an_heic_that_cannot_be_read_is_refused_by_name(brands, monkeypatch):
    monkeypatch.setattr("model.heif.find_spec", lambda _: None)
    with pytest.raises(UnsupportedFormatError, match=r"HEIC image.*oneshot\[heic\]"):
        decode_image(container(*brands))


def test_other_containers_are_no_images():
    with pytest.raises(UnsupportedFormatError, match="accepted format"):
        decode_image(container(b"isom", b"mp42"))


@needs_avif
def test_a_broken_avif_is_corrupt_and_the_process_goes_on(decoders):
    good = encode(CHARACTER.convert("RGB"), "AVIF")
    decode_image(good)
    [decoder] = decoders
    for end in (60, len(good) // 2, len(good) - 40):
        with pytest.raises(CorruptImageError, match="AVIF"):
            decode_image(good[:end])
    assert unlike(good) < 3
    assert decoders == [decoder]


@needs_avif
def test_pixels_are_counted_before_and_after():
    data = encode(Image.new("RGB", (300, 200)), "AVIF")
    with pytest.raises(TooManyPixelsError, match="300x200"):
        decode_image(data, ImageLimits(max_pixels=59_999))
    with pytest.raises(TooManyPixelsError, match="each side"):
        decode_image(data, ImageLimits(max_side=299))


def large(width: int = 6000) -> bytes:
    return encode(Image.new("L", (width, 6000), 200), "TIFF", compression="tiff_deflate")


def test_a_large_image_comes_at_a_fraction_of_its_size():
    assert decode_image(large()).size == (750, 750)


def test_time_is_limited(decoders, monkeypatch):
    monkeypatch.setattr(apart, "MAX_SECONDS", 0.05)
    with pytest.raises(CorruptImageError, match=r"more than 0\.05 seconds"):
        decode_image(large())
    assert decoders == []
    monkeypatch.undo()
    assert decode_image(encode(CHARACTER, "TIFF", compression="tiff_lzw")).size == CHARACTER.size


def test_memory_is_limited(decoders, monkeypatch):
    small = encode(CHARACTER, "TIFF", compression="tiff_lzw")
    decode_image(small)
    pages = int(Path(f"/proc/{decoders[0].process.pid}/statm").read_text("ascii").split()[0])
    monkeypatch.setattr(apart, "MAX_BYTES", pages * os.sysconf("SC_PAGE_SIZE") + 10_000_000)
    with pytest.raises(CorruptImageError, match="memory"):
        decode_image(large())
    assert decode_image(small).size == CHARACTER.size


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGKILL, MemoryError), (signal.SIGSEGV, CorruptImageError)], ids=["killed", "crashed"]
)
def test_a_process_that_ends_while_it_decodes(decoders, number, error):
    with ThreadPoolExecutor() as pool:
        decode_image(encode(CHARACTER, "TIFF", compression="tiff_lzw"))
        process = decoders[0].process
        os.kill(process.pid, signal.SIGSTOP)  # it receives the image but does not process it
        waiting = pool.submit(decode_image, encode(CHARACTER, "TIFF", compression="tiff_lzw"))
        while decoders:
            pass
        time.sleep(0.3)  # until the image has been sent
        os.kill(process.pid, number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        with pytest.raises(error):
            waiting.result()


def test_one_that_left_while_it_waited_is_replaced(decoders):
    data = encode(CHARACTER, "TIFF", compression="tiff_lzw")
    decode_image(data)
    [gone] = decoders
    gone.process.terminate()
    gone.process.wait()
    assert unlike(data) == 0
    assert decoders != [gone]


def test_many_at_once_use_a_few_processes(decoders):
    data = encode(CHARACTER, "TIFF", compression="tiff_lzw")
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: unlike(data), range(60)))
    assert found == [0] * 60
    assert 0 < len(decoders) <= apart.MOST


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_its_own(decoders):
    data = encode(CHARACTER, "TIFF", compression="tiff_lzw")
    decode_image(data)
    if (child := os.fork()) == 0:
        ok = apart.decoders.idle == [] and decode_image(data).size == CHARACTER.size
        apart.decoders.close()
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert unlike(data) == 0
