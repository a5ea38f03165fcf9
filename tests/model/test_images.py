"""Every accepted format and mode decodes; everything else is refused with the right error."""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.images import (
    MEDIA_TYPES,
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageLimits,
    TooManyPixelsError,
    UnsupportedFormatError,
    decode_image,
    sniff_media_type,
)
from tests.factories import draw_character, encode

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "PPM": ("1", "L", "RGB", "I;16"),
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
    assert sniff_media_type(data) == MEDIA_TYPES[kind]


def test_every_accepted_format_is_covered():
    assert set(MODES) == set(MEDIA_TYPES)


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
    """1 x 39,900,000 pixels are within the area that is allowed, and would take more than a gigabyte."""
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


@pytest.mark.filterwarnings("ignore")  # of odd metadata
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(MODES)), seed=st.integers(0, 2**32 - 1), flips=st.integers(1, 20))
def test_mutated_files_decode_or_raise_an_image_error(kind, seed, flips):
    data = bytearray(encode(draw_character(1, size=32).convert("RGB"), kind))
    rng = np.random.default_rng(seed)
    for position in rng.integers(len(data), size=flips):
        data[position] = rng.integers(256)
    with contextlib.suppress(ImageError):
        assert decode_image(bytes(data), ImageLimits(max_pixels=1_000_000)).mode in ("L", "RGB")


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
