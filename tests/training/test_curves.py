"""Error rates of pairs against direct counting and against theory."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from training.curves import equal_error_rate, fnmr_at, pair_curves

RATES = (0.1, 0.01)


def test_rates_by_hand():
    genuine, impostor = np.array([1.0, 2.0, 3.0, 6.0]), np.array([4.0, 5.0, 7.0, 8.0])
    assert equal_error_rate(genuine, impostor) == pytest.approx(0.25)
    assert fnmr_at(0.0, genuine, impostor) == pytest.approx(0.25), "up to 3"
    assert fnmr_at(0.25, genuine, impostor) == pytest.approx(0.25)
    assert fnmr_at(0.5, genuine, impostor) == pytest.approx(0.0), "up to 6"


def test_a_perfect_a_constant_and_a_hopeless_model():
    near, far = np.linspace(0, 1, 50), np.linspace(2, 3, 70)
    assert equal_error_rate(near, far) == 0
    assert equal_error_rate(np.ones(50), np.ones(70)) == pytest.approx(0.5)
    assert equal_error_rate(far, near) == pytest.approx(1)
    assert fnmr_at(0.01, np.ones(50), np.ones(70)) == 1, "a tie accepts all or none"


def test_gaussian_scores_have_the_error_rate_of_theory():
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(0, 1, 40_000), rng.normal(2, 1, 40_000)
    assert equal_error_rate(genuine, impostor) == pytest.approx(norm.cdf(-1), abs=0.004)
    assert fnmr_at(0.01, genuine, impostor) == pytest.approx(norm.sf(2 + norm.ppf(0.01)), abs=0.02)


@pytest.fixture(scope="module")
def points():
    """Twelve groups of ten classes of six images by six sources; classes of a group are near each other."""
    rng = np.random.default_rng(1)
    groups, classes, sources = (part.ravel() for part in np.mgrid[:12, :10, :6])
    classes = classes + 10 * groups
    where = rng.normal(0, 2, (12, 8))[groups] + rng.normal(0, 1, (120, 8))[classes] + rng.normal(0, 0.6, (720, 8))
    return where.astype(np.float32), classes, groups, sources


def brute(points, within):
    vectors, classes, groups, sources = points
    found = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    rows, columns = np.triu_indices(len(vectors), 1)
    two = sources[rows] != sources[columns]
    same, near = classes[rows] == classes[columns], groups[rows] == groups[columns]
    kind = ~same & near if within else ~near
    return found[rows, columns][two & same], found[rows, columns][two & kind]


def test_curves_are_those_of_plain_counting(points):
    vectors, classes, groups, sources = points
    curves = pair_curves("l2", vectors, classes, groups, sources, wanted=RATES, seed=0)
    assert list(curves) == ["within", "across"]
    for name, curve in curves.items():
        genuine, impostor = brute(points, within=name == "within")
        assert (curve.n_genuine, curve.n_impostor) == (len(genuine), len(impostor))
        assert curve.eer.value == pytest.approx(equal_error_rate(genuine, impostor), abs=0.003)
        for rate in RATES:
            assert curve.fnmr_at[rate].value == pytest.approx(fnmr_at(rate, genuine, impostor), abs=0.01)
        at = len(curve.distances) // 2
        distance = curve.distances[at]
        assert curve.fmr[at] == pytest.approx((impostor <= distance).mean(), abs=0.002)
        assert curve.fnmr[at] == pytest.approx((genuine > distance).mean(), abs=0.002)
        assert (np.diff(curve.fmr) >= 0).all()
        assert (np.diff(curve.fnmr) <= 0).all()
    assert curves["within"].eer.value > curves["across"].eer.value, "look-alikes are inside a group"


def test_intervals_are_over_groups_and_hold_the_estimate(points):
    vectors, classes, groups, sources = points
    wide = pair_curves("l2", vectors, classes, groups, sources, wanted=RATES, seed=0)["across"]
    assert wide.eer.low < wide.eer.value < wide.eer.high
    for found in wide.fnmr_at.values():
        assert found.low <= found.value <= found.high
    # Three groups give wider intervals than twelve.
    few = groups < 3
    three = pair_curves("l2", vectors[few], classes[few], groups[few], sources[few], wanted=RATES, seed=0)["within"]
    twelve = pair_curves("l2", vectors, classes, groups, sources, wanted=RATES, seed=0)["within"]
    assert three.eer.high - three.eer.low > twelve.eer.high - twelve.eer.low


def test_one_group_has_one_curve(points):
    vectors, classes, groups, sources = points
    curves = pair_curves("l2", vectors, classes, np.zeros_like(groups), sources, wanted=RATES, seed=0)
    assert list(curves) == ["all"]
    assert curves["all"].eer.low < curves["all"].eer.value < curves["all"].eer.high
