"""Open-set figures against direct counting, on vectors with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from testing.factories import make_calibration
from training.openset import Searches, auroc, fnir, fpir, oscr, search_galleries

CALIBRATION = make_calibration()


def searches(known, right, strangers):
    return Searches(
        known=np.array(known, float),
        right=np.array(right),
        known_class=np.zeros(len(known), int),
        strangers=np.array(strangers, float),
        stranger_class=np.zeros(len(strangers), int),
    )


def test_rates_by_hand():
    found = searches([0.1, 0.3, 0.5, 0.2], [True, True, True, False], [0.25, 0.6, 0.9, 0.45])
    threshold = float(CALIBRATION.probability(0.4))
    assert fpir(found, CALIBRATION, threshold).tolist() == [True, False, False, False]
    assert fnir(found, CALIBRATION, threshold).tolist() == [False, False, True, True]


def test_areas_by_hand():
    found = searches([0.1, 0.3], [True, False], [0.2, 0.4])
    # Three of four (known, stranger) pairs have the known one nearer: (0.1, 0.2), (0.1, 0.4), (0.3, 0.4).
    assert auroc(found) == pytest.approx(3 / 4)
    # Half of the queries are correct before the first stranger is identified, and never more.
    assert oscr(found) == pytest.approx(1 / 2)


def test_perfect_and_useless():
    assert oscr(searches([0.1, 0.2], [True, True], [0.5, 0.6])) == pytest.approx(1)
    assert oscr(searches([0.1, 0.2], [False, False], [0.5, 0.6])) == 0


def test_galleries_hold_one_image_a_class_and_queries_are_never_it():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(30), 5)
    vectors = (np.eye(30)[classes] * 10 + rng.normal(0, 0.1, (150, 30))).astype(np.float32)
    found = search_galleries("l2", vectors, classes, size=10, n_galleries=20, seed=1)
    assert len(found.known) == 20 * 10 * 4
    assert len(found.strangers) == 20 * 20 * 5
    assert found.right.all()
    assert found.known.min() > 0, "a query at distance 0 would be the enrolled image itself"
    assert found.known.max() < 3
    assert found.strangers.min() > 12
    again = search_galleries("l2", vectors, classes, size=10, n_galleries=20, seed=1)
    assert np.array_equal(again.strangers, found.strangers)


def test_a_constant_model_names_nobody_rightly_and_a_random_one_once_in_n():
    classes = np.repeat(np.arange(30), 5)
    constant = search_galleries("l2", np.ones((150, 4), np.float32), classes, size=10, n_galleries=20, seed=1)
    assert constant.right.sum() == 0, "ties are wrong"
    assert auroc(constant) == pytest.approx(0.5)
    vectors = np.random.default_rng(2).normal(size=(150, 8)).astype(np.float32)
    random = search_galleries("l2", vectors, classes, size=10, n_galleries=80, seed=1)
    assert random.right.mean() == pytest.approx(1 / 10, abs=0.03)
    assert auroc(random) == pytest.approx(0.5, abs=0.05)
