"""Every accepted format and mode decodes; everything else is refused with the right error."""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.essentials import essentials
from model.images import (
    MEDIA_TYPES,
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageLimits,
    TooManyPixelsError,
    UnsupportedFormatError,
    decode_image,
)
from model.metered import MeteredFile
from testing.factories import draw_character, encode
from testing.hostile import many_scans

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "AVIF": ("RGB", "RGBA"),
}


def converted(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image, np.uint16) * 257)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(255)
        return image
    return image.convert(mode)


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_every_format_and_mode_shows_the_same_character(kind, mode):
    character = draw_character(3, size=64)
    data = encode(converted(character, mode), kind)
    decoded = decode_image(data)
    assert decoded.mode in ("L", "RGB")
    difference = np.abs(np.asarray(decoded.convert("L"), float) - np.asarray(character, float))
    assert difference.mean() < 6, f"{kind} {mode} decoded to another picture"
    assert decoded.format == kind


def test_every_accepted_format_is_covered():
    assert set(MODES) == set(MEDIA_TYPES) - {"HEIF"}  # needs an extra


def test_first_frame_of_a_gif():
    first, second = draw_character(1, size=32), draw_character(2, size=32)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=[second])
    shown = np.asarray(decode_image(buffer.getvalue()).convert("L"), float)
    assert np.abs(shown - np.asarray(first, float)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn_is_applied(orientation):
    upright = draw_character(5, size=48)
    stored_as = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if stored_as is None else upright.transpose(stored_as)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = decode_image(encode(stored, "PNG", exif=exif))
    assert np.array_equal(np.asarray(shown), np.asarray(upright))


@pytest.mark.parametrize(("ink", "background"), [(0, 255), (255, 0)])
def test_transparency_is_put_on_a_background_that_shows_the_ink(ink, background):
    alpha = Image.eval(draw_character(7, size=40), lambda level: 255 - level)
    image = Image.new("RGBA", alpha.size, (ink, ink, ink, 0))
    image.putalpha(alpha)
    grey = np.asarray(decode_image(encode(image)).convert("L"))
    assert grey[0, 0] == background
    assert ink in grey


def test_palette_with_transparency():
    image = draw_character(7, size=40).convert("P")
    grey = np.asarray(decode_image(encode(image, "GIF", transparency=255)).convert("L"))
    assert grey[0, 0] == 255
    assert grey.min() == 0


def test_sixteen_bits_keep_their_shades():
    ramp = np.linspace(0, 65_535, 64, dtype=np.uint16).reshape(8, 8)
    shown = np.asarray(decode_image(encode(Image.fromarray(ramp), "PNG")), float)
    assert np.abs(shown - ramp / 257).max() <= 1


def test_float_tiff_with_nan_and_infinity():
    pixels = np.array([[0.0, 0.5], [1.0, np.nan]], np.float32)
    assert np.asarray(decode_image(encode(Image.fromarray(pixels), "TIFF"))).tolist() == [[0, 128], [255, 0]]


def test_empty():
    with pytest.raises(EmptyImageError, match="0 bytes"):
        decode_image(b"")


@pytest.mark.parametrize(
    "data", [b"hello", b"%PDF-1.4 ...", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x80\x04K\x01."]
)
def test_not_an_image(data):
    with pytest.raises(UnsupportedFormatError, match="PNG"):
        decode_image(data)


def test_formats_off_the_list_are_refused():
    with pytest.raises(UnsupportedFormatError):
        decode_image(encode(draw_character(1), "ICO"))


def test_pixels_are_counted_before_they_are_decoded():
    bomb = encode(Image.new("1", (30_000, 30_000)), "PNG")
    with pytest.raises(TooManyPixelsError, match="900000000"):
        decode_image(bomb)
    with pytest.raises(TooManyPixelsError, match="at most 99"):
        decode_image(encode(Image.new("L", (10, 10))), ImageLimits(max_pixels=99))


@pytest.mark.parametrize("size", [(20_001, 1), (1, 20_001)])
def test_a_side_is_measured_before_the_pixels_are_decoded(size):
    with pytest.raises(TooManyPixelsError, match="at most 20000 are accepted on each side"):
        decode_image(encode(Image.new("1", size), "PNG"))


def test_a_long_image_takes_no_memory():
    """1 x 39,900,000 pixels are within the allowed area, but would take more than a gigabyte."""
    bomb = encode(Image.new("1", (1, 1)), "PNG")
    head = b"IHDR" + struct.pack(">II", 1, 39_900_000) + bomb[24:29]
    bomb = bomb[:12] + head + struct.pack(">I", zlib.crc32(head)) + bomb[33:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooManyPixelsError, match="1x39900000"):
        decode_image(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_truncated_files_are_corrupt(kind):
    data = encode(draw_character(1).convert("RGB"), kind)
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


@pytest.mark.filterwarnings("ignore")  # about odd metadata
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(MODES)), seed=st.integers(0, 2**32 - 1), flips=st.integers(1, 20))
def test_mutated_files_decode_or_raise_an_image_error(kind, seed, flips):
    data = bytearray(encode(draw_character(1, size=32).convert("RGB"), kind))
    rng = np.random.default_rng(seed)
    for position in rng.integers(len(data), size=flips):
        data[position] = rng.integers(256)
    with contextlib.suppress(ImageError):
        assert decode_image(bytes(data), ImageLimits(max_pixels=1_000_000)).mode in ("L", "RGB")


def test_a_bitmap_with_odd_masks_is_refused_by_name():
    pixels = encode(Image.new("RGB", (8, 8)), "BMP")[54:]
    head = struct.pack("<IiiHHIIiiIIIII", 40, 8, 8, 1, 16, 3, 0, 0, 0, 0, 0, 0x7000, 0x00F0, 0x000F)
    data = b"BM" + struct.pack("<IHHI", 14 + len(head) + 128, 0, 0, 14 + len(head)) + head + pixels[:128]
    with pytest.raises(UnsupportedFormatError, match="BMP bitfields"):
        decode_image(data)


def test_corrupt_names_the_format():
    data = bytearray(encode(draw_character(1)))
    data[60:120] = bytes(60)
    with pytest.raises(CorruptImageError, match="PNG"):
        decode_image(bytes(data))


@pytest.mark.parametrize(("width", "height", "fraction"), [(3200, 4000, 8), (1300, 800, 2), (799, 2000, 1)])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(width, height, fraction):
    image = draw_character(4, size=max(width, height)).crop((0, 0, width, height))
    decoded = decode_image(encode(image, "JPEG"))
    assert decoded.size == (width // fraction, height // fraction)
    whole = np.asarray(image.resize(decoded.size, Image.Resampling.BOX), np.float64)
    assert np.abs(np.asarray(decoded, np.float64) - whole).mean() < 2


def as_jpeg(image: Image.Image, **options: object) -> bytes:
    return encode(image, "JPEG", quality=90, **options)


def grey(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data).convert("L"), np.float64)


def test_of_a_jpeg_with_a_second_picture_the_first_is_taken():
    first, second = draw_character(1), draw_character(2)
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert decode_image(data).format == "JPEG"
    assert np.abs(grey(data) - np.asarray(first, float)).mean() < 2


def segment(marker: int, content: bytes) -> bytes:
    return bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content


def test_metadata_of_a_jpeg_is_left_out_except_for_the_first_that_says_how_it_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = as_jpeg(draw_character(1).transpose(Image.Transpose.ROTATE_90), exif=exif)
    odd = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000)) for _ in range(100))
    odd += segment(0xE1, b"nothing known") + segment(0xFE, b"a comment \xff\xda") + segment(0xED, b"8BIM")
    data = turned[:2] + odd + turned[2:]
    assert essentials(data) == turned
    assert np.abs(grey(data) - np.asarray(draw_character(1), float)).mean() < 2


@pytest.mark.usefixtures("no_collection")
def test_the_scans_of_a_jpeg_are_counted_before_it_is_decoded():
    assert decode_image(many_scans((40, 40), 100)).size == (40, 40)
    began = time.thread_time()
    with pytest.raises(CorruptImageError, match="more than 100 scans"):
        decode_image(many_scans((2000, 2000), 30_000))
    assert time.thread_time() - began < 0.5


@pytest.mark.usefixtures("no_collection")
def test_a_jpeg_of_millions_of_segments_is_refused_at_once():
    data = b"\xff\xd8" + segment(0xFE, b"") * 2_000_000
    began = time.thread_time()
    with pytest.raises(CorruptImageError, match="more than 10000 segments"):
        decode_image(data)
    assert time.thread_time() - began < 0.5


def test_a_jpeg_may_lack_its_end_but_nothing_of_its_picture():
    data = as_jpeg(draw_character(1, size=200))
    assert np.array_equal(grey(data[:-2]), grey(data))
    with pytest.raises(CorruptImageError, match="truncated"):
        decode_image(data[:-12])


def png_chunk(kind: bytes, content: bytes, flaw: int = 0) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ flaw)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"gAMA", struct.pack(">I", 45_455), flaw=1),
        png_chunk(b"tEXt", b"Title\0x", flaw=1),
        png_chunk(b"tRNS", b"\0\0", flaw=1),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2_000_000))),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2_000_000))),
        png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2_000_000))),
        png_chunk(b"eXIf", bytes(2_000_000)),
        png_chunk(b"tEXt", b"k\0v") * 10_000,
    ],
)
def test_damaged_and_large_metadata_of_a_png_is_left_out(chunk):
    data = encode(draw_character(1))
    assert essentials(data[:33] + chunk + data[33:]) == data
    assert np.array_equal(grey(data[:33] + chunk + data[33:]), grey(data))


def test_a_header_that_is_read_byte_by_byte_has_an_end():
    comment = b"#" + b" " * 1_000_000 + b"\n"
    with pytest.raises(CorruptImageError, match="too long"):
        decode_image(b"P5\n" + comment + b"1 1\n255\n0")
    assert decode_image(b"P5\n" + b"#" + comment[900_000:] + b"1 1\n255\n0").size == (1, 1)


def test_a_decoder_may_compute_for_so_long_and_no_longer():
    file = MeteredFile(bytes(100), seconds=0.02)
    assert file.read(10) == bytes(10)
    while time.thread_time() < file.end:
        pass
    with pytest.raises(OSError, match=r"more than 0\.02 seconds"):
        file.read(10)


_LITTLE_MEMORY = """
import resource, sys
from model.images import decode_image
data = open(sys.argv[1], "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, -1))
try:
    decode_image(data)
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_missing_memory_is_not_the_image_s_fault(kind, tmp_path):
    options = {"progressive": True} if kind == "JPEG" else {}
    tmp_path.joinpath("image").write_bytes(encode(Image.new("RGB", (4000, 4000)), kind, **options))
    found = subprocess.run([sys.executable, "-c", _LITTLE_MEMORY, tmp_path / "image"], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "MemoryError"
