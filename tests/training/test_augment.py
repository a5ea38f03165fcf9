"""Distortions change the picture, keep its range, and are reproducible for a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from testing.factories import draw_character
from training.augment import Augment
from training.recipe import AugmentPart

CHARACTER = 1 - torch.from_numpy(np.asarray(draw_character(1, size=40), np.float32) / 255)
IMAGES = CHARACTER.expand(16, 1, 40, 40)
STRONG = AugmentPart(rotation=20, scale=0.3, shear=0.3, translation=0.1, elastic=0.03, gamma=0.4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_pictures():
    first, again, other = (Augment(STRONG)(IMAGES, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_image_is_distorted_differently_and_stays_in_range():
    distorted = Augment(STRONG)(IMAGES, seeded())
    assert distorted.shape == IMAGES.shape
    assert distorted.min() >= 0
    assert distorted.max() <= 1
    assert len(torch.unique(distorted.flatten(1).sum(1))) == len(IMAGES)


def test_no_distortion_is_the_identity():
    assert torch.allclose(Augment(AugmentPart())(IMAGES, seeded()), IMAGES, atol=1e-3)
    assert torch.equal(Augment(STRONG.model_copy(update={"probability": 0.0}))(IMAGES, seeded()), IMAGES)


def test_translation_moves_by_at_most_what_was_asked():
    dot = torch.zeros(200, 1, 41, 41)
    dot[:, :, 20, 20] = 1
    moved = Augment(AugmentPart(translation=0.1))(dot, seeded())
    rows, columns = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    mass = moved.sum((1, 2, 3))
    for coordinate in (rows, columns):
        shift = (moved[:, 0] * coordinate).sum((1, 2)) / mass - 20
        assert shift.abs().max() <= 4.1 + 0.2
        assert shift.abs().max() > 3


def test_gamma_changes_the_weight_of_strokes_only():
    grey = torch.full((50, 1, 8, 8), 0.5)
    levels = Augment(AugmentPart(gamma=0.5))(grey, seeded())[:, 0, 4, 4]
    assert levels.min() == pytest.approx(0.5 ** np.exp(0.5), abs=0.02)
    assert levels.max() == pytest.approx(0.5 ** np.exp(-0.5), abs=0.02)


def test_a_share_is_distorted_as_within_the_whole():
    part = STRONG.model_copy(update={"mirror": True, "light": 0.3, "contrast": 0.3, "erase": 0.5, "each": 0.5})
    whole = Augment(part)(IMAGES, seeded())
    shares = [Augment(part)(IMAGES, seeded(), share) for share in (slice(0, 6), slice(6, 16))]
    assert torch.allclose(torch.cat(shares), whole, atol=1e-6)


def test_mirroring_turns_about_half_of_the_images():
    images = torch.rand(1, 1, 9, 9, generator=seeded()).expand(200, 1, 9, 9)
    mirrored = Augment(AugmentPart(mirror=True))(images, seeded())
    as_is = torch.isclose(mirrored, images.clamp(1e-4), atol=1e-4).flatten(1).all(1)
    turned = torch.isclose(mirrored, images.flip(3).clamp(1e-4), atol=1e-4).flatten(1).all(1)
    assert (as_is ^ turned).all()
    assert 70 < turned.sum() < 130


def test_each_distortion_has_its_own_chance():
    part = AugmentPart(translation=0.2, rotation=20, each=0.5)
    image = torch.zeros(400, 1, 21, 21)
    image[:, :, 9:12, 9:12] = 1
    unchanged = torch.isclose(Augment(part)(image, seeded()), image, atol=1e-3).flatten(1).all(1)
    assert 60 < unchanged.sum() < 140  # a quarter is neither rotated nor shifted


def test_light_and_contrast():
    grey = torch.full((50, 1, 8, 8), 0.3)
    lit = Augment(AugmentPart(light=0.5))(grey, seeded())
    ratio = lit[:, 0, 4, 7] / lit[:, 0, 4, 0]
    assert ratio.min() == pytest.approx(np.exp(-1), abs=0.1)
    assert ratio.max() == pytest.approx(np.exp(1), abs=0.5)
    halves = torch.cat([torch.full((50, 1, 8, 4), 0.4), torch.full((50, 1, 8, 4), 0.6)], 3)
    contrast = Augment(AugmentPart(contrast=0.5))(halves, seeded())
    assert contrast.mean((1, 2, 3)).sub(0.5).abs().max() < 0.01
    assert contrast.std((1, 2, 3)).max() > 1.3 * contrast.std((1, 2, 3)).min()


def test_a_box_is_blotted_out_and_no_larger_than_asked_for():
    noise = torch.rand(60, 1, 20, 20, generator=seeded())
    blotted = Augment(AugmentPart(erase=0.5))(noise, seeded(1))
    changed = (~torch.isclose(blotted, noise.clamp(1e-4), atol=1e-3)).float()
    sides = torch.cat([changed.amax(3).sum(2), changed.amax(2).sum(2)])
    assert sides.max() <= 11
    assert sides.max() >= 8


def test_the_border_is_repeated_or_black():
    white = torch.ones(20, 1, 10, 10)
    assert Augment(AugmentPart(translation=0.3, border="repeat"))(white, seeded()).min() > 0.99
    assert Augment(AugmentPart(translation=0.3))(white, seeded()).min() < 0.01


def test_bold_lets_the_ink_of_every_second_image_grow():
    dot = torch.zeros(64, 1, 21, 21)
    dot[:, :, 10, 10] = 1
    ink = Augment(AugmentPart(bold=0.1))(dot, seeded())  # by 2.1 pixels at most
    sums = ink.sum((1, 2, 3))
    assert 20 <= int((sums < 1.1).sum()) <= 44
    assert 25 < float(sums.max()) <= 49.1
    assert ink[:, :, 10, 10].min() > 0.99
    assert ink[:, :, :7].max() < 1e-3
    assert ink.max() <= 1
