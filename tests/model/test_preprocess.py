"""The network's input does not depend on polarity, colour mode or, with cropping, on position and size."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageOps

from model.manifest import PreprocessSpec
from model.preprocess import Preprocess
from testing.factories import draw_character


@pytest.mark.parametrize("crop", ["none", "ink"])
@pytest.mark.parametrize("seed", range(5))
def test_white_on_black_equals_black_on_white(crop, seed):
    prepare = Preprocess(PreprocessSpec(size=32, crop=crop))
    character = draw_character(seed)
    assert np.array_equal(prepare(character), prepare(ImageOps.invert(character)))


@settings(max_examples=100, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_a_negative_prepares_alike_unless_it_is_its_own_mirror(pixels):
    prepare = Preprocess(PreprocessSpec(size=8))
    positive, negative = prepare(Image.fromarray(pixels)), prepare(Image.fromarray(255 - pixels))
    ring = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    undecided = 2 * float(np.median(ring)) == 255 and float(pixels.mean()) == 127.5
    assert undecided or np.array_equal(positive, negative)


def test_background_is_zero_and_ink_is_one():
    prepared = Preprocess(PreprocessSpec(size=105))(draw_character(1))
    assert prepared.shape == (1, 105, 105)
    assert prepared.dtype == np.float32
    assert prepared[0, 0, 0] == 0
    assert prepared.max() == 1


@pytest.mark.parametrize("level", [0, 100, 255])
def test_images_of_one_shade(level):
    prepared = Preprocess(PreprocessSpec(size=16, crop="ink"))(Image.new("L", (30, 30), level))
    assert np.isfinite(prepared).all()
    assert prepared.min() == prepared.max()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2)])
@pytest.mark.parametrize("crop", ["none", "ink"])
def test_extreme_shapes(size, crop):
    prepared = Preprocess(PreprocessSpec(size=24, crop=crop))(Image.new("RGB", size, (9, 200, 30)))
    assert prepared.shape == (1, 24, 24)
    assert np.isfinite(prepared).all()


def test_pencil_on_grey_paper_is_ink_on_white():
    character = draw_character(2)
    faint = Image.eval(character, lambda level: 120 + level // 4)
    assert (
        np.abs(Preprocess(PreprocessSpec(size=32))(faint) - Preprocess(PreprocessSpec(size=32))(character)).max() < 0.02
    )


def test_the_ink_box_ignores_where_and_how_big():
    prepare = Preprocess(PreprocessSpec(size=32, crop="ink"))
    character = draw_character(4, size=64)
    moved = Image.new("L", (300, 200), 255)
    moved.paste(character, (190, 110))
    large = character.resize((192, 192), Image.Resampling.BICUBIC)
    assert np.allclose(prepare(moved), prepare(character), atol=0.01)
    assert np.abs(prepare(large) - prepare(character)).mean() < 0.03


def test_padding_keeps_proportions_and_stretching_does_not():
    wide = Image.new("L", (60, 20), 255)
    wide.paste(0, (10, 5, 50, 15))
    padded = Preprocess(PreprocessSpec(size=60, fit="pad"))(wide)
    stretched = Preprocess(PreprocessSpec(size=60, fit="stretch"))(wide)
    assert padded[0].any(axis=1).sum() == pytest.approx(10, abs=1)
    assert stretched[0].any(axis=1).sum() == pytest.approx(30, abs=4)


def test_colour():
    image = Image.new("RGB", (40, 40), (255, 255, 255))
    image.paste((255, 0, 0), (10, 10, 30, 30))
    prepared = Preprocess(PreprocessSpec(size=40, channels=3, polarity="as-is"))(image)
    assert prepared.shape == (3, 40, 40)
    assert prepared[:, 20, 20].tolist() == [1, 0, 0]


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 100_000)])
@pytest.mark.parametrize("crop", ["none", "ink"])
def test_very_long_images_take_little_memory(size, crop):
    image = Image.new("L", size, 255)
    image.paste(0, (0, 0, max(1, size[0] // 2), max(1, size[1] // 2)))
    tracemalloc.start()
    prepared = Preprocess(PreprocessSpec(size=28, crop=crop))(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert prepared.shape == (1, 28, 28)
    assert peak < 100_000_000, f"{peak / 1e6:.0f} MB"


PHOTO = PreprocessSpec(size=24, channels=3, polarity="as-is", fit="cover", interpolation="bicubic")


def gradient(width: int, height: int) -> Image.Image:
    """An image in which red increases to the right, green downwards, and blue is constant."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.full_like(across, 60)], axis=2).round().astype(np.uint8))


def test_cover_takes_the_middle_square():
    image = gradient(90, 30)
    middle = Preprocess(PHOTO)(image)
    assert np.allclose(middle, Preprocess(PHOTO)(image.crop((30, 0, 60, 30))), atol=0.01)
    assert (middle[0, 12, 0], middle[0, 12, -1]) == pytest.approx((1 / 3, 2 / 3), abs=0.02)
    assert np.ptp(middle[1]) > 0.9


@pytest.mark.parametrize("fit", ["cover", "pad", "stretch"])
def test_a_share_is_cut_from_the_middle(fit):
    spec = PHOTO.model_copy(update={"fit": fit, "share": 0.5})
    part = Preprocess(spec)(gradient(80, 80))
    assert (part[0].min(), part[0].max()) == pytest.approx((0.25, 0.75), abs=0.02)
    assert (part[1].min(), part[1].max()) == pytest.approx((0.25, 0.75), abs=0.02)


def test_interpolations_differ():
    found = [
        Preprocess(PHOTO.model_copy(update={"interpolation": name}))(gradient(9, 9))
        for name in ("bilinear", "bicubic", "lanczos")
    ]
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


def test_what_was_added_later_is_not_written_where_it_changes_nothing():
    names = {"size", "channels", "polarity", "crop", "margin", "fit"}
    assert set(PreprocessSpec(size=40).model_dump(mode="json")) == names
    whole = PHOTO.model_copy(update={"share": 0.875})
    assert PreprocessSpec.model_validate(whole.model_dump(mode="json")) == whole
