"""Hostile images: mutations of each format, decompression bombs, polyglots, extreme shapes. All seeded."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\xff\xff")


def drawing(size: int = 48) -> Image.Image:
    """A plain valid image."""
    image = Image.new("L", (size, size), 255)
    ImageDraw.Draw(image).line([(5, 8), (size - 8, size // 2), (9, size - 6)], fill=0, width=3)
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image encoded in the format `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def odd_images() -> Iterator[tuple[str, bytes]]:
    """Named single cases: strange images, well-formed or nearly so."""
    for size in ((1, 1), (1, 30_000), (30_000, 1), (2, 3)):
        yield f"{size[0]}x{size[1]}", encoded(Image.new("L", size, 255), "PNG")
    for name, shade in (("white", 255), ("black", 0), ("grey", 128)):
        for kind in FORMATS:
            yield f"all {name} {kind}", encoded(Image.new("L", (40, 40), shade), kind)
    for name, value in (("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf), ("huge", 3e38)):
        field = np.full((20, 20), value, np.float32)
        yield f"float TIFF of {name}", encoded(Image.fromarray(field), "TIFF")
        field[::2] = 1.0
        yield f"float TIFF with {name}", encoded(Image.fromarray(field), "TIFF")
    pages = [drawing(), Image.new("L", (48, 48), 0), drawing().transpose(Image.Transpose.ROTATE_90)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        yield f"several pages {kind}", encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    yield "PNG bomb", _png_bomb(20_000, 20_000)
    yield "PNG that claims 2^31 pixels a side", _png_bomb(2**31 - 1, 2**31 - 1, rows=1)
    yield "PPM that claims a terapixel", b"P6 1000000 1000000 255\n" + bytes(100)
    yield "text chunk bomb", _with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    yield "many small chunks", _with_chunks(b"tEXt", b"k\0v", 20_000)
    for first, second in itertools.permutations(FORMATS, 2):
        yield f"{first} then {second}", encoded(drawing(), first) + encoded(drawing(), second)
    for name, head in (("zip", b"PK\x03\x04"), ("html", b"<html><script>alert(1)</script>"), ("pdf", b"%PDF-1.7\n")):
        yield f"{name} before PNG", head + encoded(drawing(), "PNG")
        yield f"{name} after PNG", encoded(drawing(), "PNG") + head
        yield f"{name} after GIF", encoded(drawing(), "GIF") + head
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    yield "nothing but zeros", bytes(1000)


def mutations(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` images, each a valid one of some format after one to four mutations."""
    rng = random.Random(seed)
    good = [(kind, encoded(drawing(), kind)) for kind in FORMATS]
    good += [("TIFF", encoded(drawing().convert("F"), "TIFF")), ("PNG", encoded(drawing().convert("P"), "PNG"))]
    for number in range(count):
        kind, data = good[number % len(good)]
        for _ in range(rng.randint(1, 4)):
            data = rng.choice(_ACCIDENTS)(rng, data, good)
        yield f"{seed}/{number} {kind}", data


def zip_bomb(content: bytes, count: int) -> bytes:
    """A zip file with `count` copies of the same image, each as a class of its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(count):
            archive.writestr(f"{number}.png", content)
    return buffer.getvalue()


def white_picture() -> bytes:
    """A valid image of a megabyte that a zip file compresses to a kilobyte."""
    page = Image.new("L", (1000, 1000), 255)
    page.paste(drawing(), (400, 400))
    return encoded(page, "TIFF")


def image_lines(count: int, size: int) -> bytes:
    """NDJSON with `count` classes, each with a valid image followed by `size` random bytes."""
    image = encoded(drawing(), "PNG")
    lines = ({"label": f"{n}", "image": base64.b64encode(image + os.urandom(size)).decode()} for n in range(count))
    return b"\n".join(json.dumps(line).encode() for line in lines)


def many_scans(size: tuple[int, int], count: int) -> bytes:
    """A progressive JPEG with `count` scans, most of them copies of its second one."""
    data = encoded(Image.new("L", size, 200), "JPEG", progressive=True)
    first = data.index(b"\xff\xc4", data.index(b"\xff\xda"))  # the tables of its second scan
    second = data.index(b"\xff\xc4", data.index(b"\xff\xda", first))
    return data[:second] + data[first:second] * (count - 2) + b"\xff\xd9"


def black_png(width: int, height: int) -> bytes:
    """A complete black PNG of any shape; large ones are slow to generate."""
    return _png_of(width, height, zlib.compress(bytes((width + 1) * height), 9))


_Good = list[tuple[str, bytes]]


def _flip(rng: random.Random, data: bytes, _good: _Good) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _head(rng: random.Random, data: bytes, _good: _Good) -> bytes:
    """Put an extreme number into the header, where sizes, offsets and counts are."""
    place = rng.randrange(min(len(data), 64) + 1)
    return data[:place] + rng.choice(_EXTREMES)[: rng.choice((1, 2, 4))] + data[place + 4 :]


def _cut(rng: random.Random, data: bytes, _good: _Good) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _drop(rng: random.Random, data: bytes, _good: _Good) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randint(1, 40) :]


def _insert(rng: random.Random, data: bytes, _good: _Good) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randint(1, 60)) + data[place:]


def _repeat(rng: random.Random, data: bytes, _good: _Good) -> bytes:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.randint(1, 80)]
    return data[:start] + piece * rng.randint(2, 30) + data[start:]


def _splice(rng: random.Random, data: bytes, good: _Good) -> bytes:
    other = rng.choice(good)[1]
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


_ACCIDENTS: tuple[Callable[[random.Random, bytes, _Good], bytes], ...] = (
    _flip, _head, _head, _cut, _drop, _insert, _repeat, _splice,
)  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_bomb(width: int, height: int, rows: int | None = None) -> bytes:
    return _png_of(width, height, zlib.compress(bytes((min(width, 20_000) + 1) * (rows or 2_000)), 9))


def _png_of(width: int, height: int, body: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _with_chunks(kind: bytes, data: bytes, count: int) -> bytes:
    png = encoded(drawing(), "PNG")
    return png[:33] + _chunk(kind, data) * count + png[33:]


def _with_chunk(kind: bytes, data: bytes) -> bytes:
    return _with_chunks(kind, data, 1)
