"""Distortions keep the picture in range, change it, and repeat for a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.factories import draw_character
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
