"""Deep greys, transparency and blank pages: pictures look as their maker sees them, and blank ones count as blank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.images import UnsupportedFormatError, decode_image
from model.manifest import PreprocessSpec
from model.preprocess import Preprocess
from testing.factories import draw_character, encode

HOUSE, OTHER = draw_character(3, size=120), draw_character(4, size=120)


def shown(image: Image.Image, kind: str = "PNG") -> np.ndarray:
    return np.asarray(decode_image(encode(image, kind)).convert("L"), np.float64)


def unlike(found: np.ndarray, character: Image.Image = HOUSE) -> float:
    return float(np.abs(found - np.asarray(character, np.float64)).mean())


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 1023), (0, 4095), (0, 65_535), (32_000, 33_000), (65_000, 65_535)]
)
def test_sixteen_bits_of_any_range_show_the_picture(low, high):
    deep = np.asarray(HOUSE, np.float64) / 255 * (high - low) + low
    found = shown(Image.fromarray(deep.round().astype(np.uint16)))
    assert unlike(found) < (20 if high == 1 else 2)
    assert unlike(found, OTHER) > 20


@pytest.mark.parametrize(("low", "high"), [(0, 0.01), (0, 1), (0, 1.5), (0, 1000), (1000, 1001), (-5, 5), (1e30, 2e30)])
def test_floats_of_any_range_show_the_picture(low, high):
    deep = (np.asarray(HOUSE, np.float64) / 255 * (high - low) + low).astype(np.float32)
    assert unlike(shown(Image.fromarray(deep), "TIFF")) < 2


@pytest.mark.parametrize("level", [0, 7, 300, 65_535])
def test_noise_on_a_page_of_sixteen_bits_is_not_stretched(level):
    noise = np.random.default_rng(1).integers(0, 1 + level // 50, (90, 90))
    found = shown(Image.fromarray((level - noise).astype(np.uint16)))
    assert np.ptp(found) < 16


def page_with_round_corners() -> Image.Image:
    mask = Image.new("L", HOUSE.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 119, 119), radius=30, fill=255)
    page = HOUSE.convert("RGBA")
    page.putalpha(mask)
    return page


def page_in_a_frame() -> Image.Image:
    framed = Image.new("RGBA", (160, 140), (0, 0, 0, 0))
    framed.paste(HOUSE.convert("RGBA"), (15, 10))
    return framed


def test_transparent_corners_of_a_page_are_page():
    assert unlike(shown(page_with_round_corners())) < 0.1


@pytest.mark.parametrize("inverted", [False, True])
def test_a_transparent_frame_around_a_page_is_page(inverted):
    framed = page_in_a_frame()
    if inverted:
        framed.paste(Image.eval(HOUSE, lambda level: 255 - level).convert("RGBA"), (15, 10))
    found = shown(framed)
    page = 0 if inverted else 255
    assert found[:10].min() == found[:10].max() == found[:, :15].min() == page
    assert unlike(found[10:130, 15:135], Image.eval(HOUSE, lambda level: 255 - level) if inverted else HOUSE) < 0.1


def test_a_drawing_that_fills_its_box_and_is_of_one_colour_stands_out():
    disc = Image.new("RGBA", (60, 60), (255, 255, 255, 0))
    disc.paste((250, 250, 250, 255), (10, 10, 50, 50))
    assert np.ptp(shown(disc)) == 250


def test_grey_with_premultiplied_transparency():
    data = encode(HOUSE.convert("LA"), "TIFF")
    tag = data.index(b"\x52\x01\x03\x00\x01\x00\x00\x00")  # ExtraSamples
    data = data[: tag + 8] + b"\x01" + data[tag + 9 :]
    assert unlike(np.asarray(decode_image(data).convert("L"), np.float64)) < 2


def tiff(bits: int, samples: int, sample_format: int, planes: int, pixels: bytes) -> bytes:
    """A minimal TIFF file: 8 x 8 pixels, uncompressed."""
    extra = 8 + 2 + 12 * 11 + 4
    many = samples > 1
    bits_at, formats_at = extra, extra + 2 * samples
    at = extra + (4 * samples if many else 0)
    strips = samples if planes == 2 else 1
    offsets_at, counts_at = at, at + 4 * strips
    begin = at + (8 * strips if strips > 1 else 0)
    size = len(pixels) // strips
    short, long = 3, 4
    tags = [
        (256, short, 1, 8), (257, short, 1, 8), (258, short, samples, bits_at if many else bits), (259, short, 1, 1),
        (262, short, 1, 2 if samples == 3 else 1), (273, long, strips, offsets_at if strips > 1 else begin),
        (277, short, 1, samples), (278, short, 1, 8), (279, long, strips, counts_at if strips > 1 else size),
        (284, short, 1, planes), (339, short, samples, formats_at if many else sample_format),
    ]  # fmt: skip
    head = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little")
    for tag, kind, count, value in tags:
        head += tag.to_bytes(2, "little") + kind.to_bytes(2, "little")
        head += count.to_bytes(4, "little") + value.to_bytes(4, "little")
    head += bytes(4)
    if many:
        head += bits.to_bytes(2, "little") * samples + sample_format.to_bytes(2, "little") * samples
    if strips > 1:
        head += b"".join((begin + place * size).to_bytes(4, "little") for place in range(strips))
        head += size.to_bytes(4, "little") * strips
    return head + pixels


@pytest.mark.parametrize(
    ("bits", "samples", "sample_format", "planes", "words"),
    [
        (64, 1, 3, 1, "1 64-bit floating-point samples"),
        (32, 3, 3, 1, "3 32-bit floating-point samples"),
        (16, 3, 1, 2, "3 16-bit unsigned samples a pixel, each in a plane of its own"),
    ],
)
def test_unusual_kinds_of_tiff_are_refused_in_words(bits, samples, sample_format, planes, words):
    with pytest.raises(UnsupportedFormatError, match=words):
        decode_image(tiff(bits, samples, sample_format, planes, bytes(64 * samples * bits // 8)))


def test_the_usual_kinds_of_that_tiff_are_read():
    assert decode_image(tiff(8, 3, 1, 2, bytes(64) + b"\xff" * 128)).getpixel((3, 3)) == (0, 255, 255)
    assert decode_image(tiff(16, 3, 1, 1, b"\0\xff" * 192)).getpixel((3, 3)) == (255, 255, 255)


def something(image: Image.Image, **spec: Any) -> bool:
    prepare = Preprocess(PreprocessSpec(**{"size": 40, "crop": "ink", **spec}))
    return prepare.shows_something(image, prepare(image))


@pytest.mark.parametrize("spec", [{}, {"crop": "none"}, {"channels": 3, "polarity": "as-is", "crop": "none"}])
def test_blank_pages_show_nothing_and_drawings_do(spec):
    for level in (0, 100, 255):
        assert not something(Image.new("L", (50, 30), level), **spec)
    uneven = np.random.default_rng(1).integers(240, 255, (60, 60)).astype(np.uint8)
    assert not something(Image.fromarray(uneven), **spec)
    assert something(HOUSE, **spec)
    assert something(Image.eval(HOUSE, lambda level: 120 + level // 4), **spec)
    assert something(page_in_a_frame().convert("RGB"), **spec)


def test_a_thin_line_on_a_large_page_is_seen():
    page = Image.new("L", (1500, 1500), 255)
    ImageDraw.Draw(page).line([(100, 100), (1400, 900), (200, 1300)], fill=0, width=2)
    assert something(page)


def test_a_picture_in_colours_of_one_brightness_is_seen():
    page = Image.new("RGB", (60, 60), (130, 0, 0))
    page.paste((0, 66, 0), (20, 20, 40, 40))
    assert something(page, channels=3, polarity="as-is", crop="none")
