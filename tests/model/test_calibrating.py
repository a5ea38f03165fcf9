"""Fits to known distributions: Gaussian classes around random centres, checked on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest

from model.calibrating import CalibrationError, compare, fit_calibration, log_loss, reliability

DIM = 8
SPREAD = 0.35


def draw(n_classes, n_images, seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, DIM))
    classes = np.repeat(np.arange(n_classes), n_images)
    return (centres[classes] + rng.normal(0, SPREAD, (len(classes), DIM))).astype(np.float32), classes


@pytest.fixture(scope="module")
def calibration():
    return fit_calibration("l2", *draw(200, 8, seed=1), source="Gaussian classes")


@pytest.fixture(scope="module")
def fresh():
    vectors, classes = draw(300, 6, seed=2)
    return vectors, classes, compare("l2", vectors, classes)


def test_every_pair_once_pair_by_pair():
    vectors, classes = draw(4, 3, seed=0)
    pairs = compare("l1", vectors, classes)
    genuine: list[float] = []
    impostor: list[float] = []
    for i in range(12):
        for j in range(i + 1, 12):
            (genuine if classes[i] == classes[j] else impostor).append(np.abs(vectors[i] - vectors[j]).sum())
    assert np.allclose(np.sort(pairs.genuine), np.sort(genuine), atol=1e-5)
    assert np.allclose(np.sort(pairs.impostor), np.sort(impostor), atol=1e-5)
    assert np.bincount(pairs.genuine_class).tolist() == [3, 3, 3, 3]


def test_pairs_of_one_group_weigh_what_was_asked():
    vectors, classes = draw(20, 3, seed=0)
    groups = classes // 10
    pairs = compare("l2", vectors, classes, groups, within_share=0.1)
    rows, columns = np.triu_indices(60, 1)
    within = (groups[rows] == groups[columns])[classes[rows] != classes[columns]]
    assert pairs.weights[within].sum() / pairs.weights.sum() == pytest.approx(0.1)
    assert pairs.weights.mean() == pytest.approx(1)


def test_the_probability_is_the_one_of_the_known_densities(calibration):
    """Distances are chi-distributed with DIM degrees of freedom, scaled by the spread within or across classes."""
    across = np.sqrt(2 * (1 + SPREAD**2))
    inside = np.sqrt(2) * SPREAD
    for distance in (1.8, 2.0, 2.2, 2.4):
        true = DIM * np.log(across / inside) - distance**2 / 2 * (1 / inside**2 - 1 / across**2)
        assert float(calibration.log_likelihood_ratio(distance)) == pytest.approx(true, abs=0.5)


def test_similarities_are_calibrated_on_fresh_classes(calibration, fresh):
    pairs = fresh[2]
    ratio = calibration.log_likelihood_ratio(np.concatenate([pairs.genuine, pairs.impostor]))
    same = np.concatenate([np.ones(len(pairs.genuine)), np.zeros(len(pairs.impostor))])
    weights = np.concatenate([np.full(len(p), 1 / len(p)) for p in (pairs.genuine, pairs.impostor)])
    assert reliability(ratio, same, weights)[2] < 0.02
    assert calibration.quality.ece < 0.02
    assert log_loss(ratio, same, weights) == pytest.approx(calibration.quality.log_loss, abs=0.02)


def test_the_method_with_the_least_loss_is_kept(calibration):
    assert len(calibration.quality.rejected) == 2
    assert all(loss >= calibration.quality.log_loss for loss in calibration.quality.rejected.values())


@pytest.mark.parametrize("fmr", [0.1, 0.01, 0.001])
def test_false_matches_on_fresh_classes_come_at_the_rate_that_was_asked(calibration, fresh, fmr):
    pairs = fresh[2]
    distance = calibration.errors.distance_at_fmr(fmr)
    assert (pairs.impostor <= distance).mean() == pytest.approx(fmr, rel=0.35)
    fnmr, low, high = calibration.errors.fnmr_at(distance)
    assert low <= fnmr <= high
    assert low - 0.01 <= (pairs.genuine > distance).mean() <= high + 0.01


@pytest.mark.parametrize("size", [5, 20, 100])
def test_strangers_are_let_in_at_the_rate_that_was_asked(calibration, fresh, size):
    """Galleries of classes never fitted on, one image each; strangers are all images of the other classes."""
    vectors, classes, _ = fresh
    distance = calibration.distance_at(calibration.threshold_at_fpir(0.05, size))
    rng = np.random.default_rng(size)
    let_in = []
    for _ in range(60):
        enrolled = rng.permutation(300)[:size]
        supports = vectors[[int(rng.choice(np.flatnonzero(classes == label))) for label in enrolled]]
        strangers = vectors[~np.isin(classes, enrolled)]
        nearest = np.linalg.norm(strangers[:, None] - supports[None], axis=2).min(1)
        let_in.append((nearest <= distance).mean())
    assert np.mean(let_in) == pytest.approx(0.05, rel=0.5)


def test_a_fit_repeats():
    first, second = (fit_calibration("l2", *draw(30, 5, seed=3), source="twice") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("n_classes", "n_images"), [(0, 1), (1, 1), (1, 9), (9, 20), (40, 2), (12, 3)])
def test_too_little_data_says_how_much_is_needed(n_classes, n_images):
    with pytest.raises(CalibrationError, match="at least 10 classes, 100 pairs"):
        fit_calibration("l2", *draw(n_classes, n_images, seed=0), source="few")


def test_data_that_tells_nothing():
    vectors, classes = draw(20, 6, seed=0)
    with pytest.raises(CalibrationError, match="tell too little"):
        fit_calibration("l2", vectors, np.random.default_rng(9).permutation(classes), source="shuffled")
