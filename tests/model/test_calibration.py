"""Probabilities decrease with distance, thresholds invert them, and rates too small for the data are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.calibration import Chances, LikelihoodRatio, UnsupportedRateError
from testing.factories import make_calibration

CALIBRATION = make_calibration()


def test_probability_by_hand():
    assert CALIBRATION.probability(5 / 12) == pytest.approx(0.5)
    assert CALIBRATION.probability([0.0])[0] == pytest.approx(1 / (1 + np.exp(-5)))
    assert CALIBRATION.log_likelihood_ratio(2.0) == pytest.approx(5 - 24)  # extrapolated beyond the knots


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_ranking_by_similarity_is_ranking_by_distance(distances):
    probabilities = CALIBRATION.probability(sorted(distances))
    assert (np.diff(probabilities) <= 0).all()
    assert (probabilities >= 0).all()
    assert (probabilities <= 1).all()


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.01, 0.99))
def test_distance_at_inverts_probability(probability, prior):
    calibration = CALIBRATION.with_prior(prior)
    assert calibration.probability(calibration.distance_at(probability)) == pytest.approx(probability, rel=1e-6)


def test_a_prior_moves_the_odds_and_not_the_evidence():
    sceptical = CALIBRATION.with_prior(0.01)
    odds = [float(each.probability(0.2)) / (1 - float(each.probability(0.2))) for each in (sceptical, CALIBRATION)]
    assert odds[0] / odds[1] == pytest.approx(1 / 99)
    assert sceptical.log_likelihood_ratio(0.2) == CALIBRATION.log_likelihood_ratio(0.2)


def test_a_prior_does_not_move_decisions_by_error_rate():
    sceptical = CALIBRATION.with_prior(0.01)
    for calibration in (sceptical, CALIBRATION):
        assert calibration.distance_at(calibration.threshold_at_fmr(0.01)) == pytest.approx(0.4)


def test_thresholds_hold_at_the_measured_rates():
    errors = CALIBRATION.errors
    for rate, distance, fnmr in zip(errors.fmr, errors.distances, errors.fnmr, strict=True):
        assert errors.distance_at_fmr(rate) == pytest.approx(distance)
        assert errors.fmr_at(distance) == pytest.approx(rate)
        assert errors.fnmr_at(distance) == pytest.approx((fnmr, 0.8 * fnmr, 1.2 * fnmr))
        assert CALIBRATION.threshold_at_fmr(rate) == pytest.approx(float(CALIBRATION.probability(distance)))
    assert errors.fmr_at(100) == 1


def test_a_rate_that_the_data_cannot_support_is_refused_with_the_smallest():
    with pytest.raises(UnsupportedRateError, match=r"0\.0001") as caught:
        CALIBRATION.threshold_at_fmr(0.00005)
    assert CALIBRATION.threshold_at_fmr(caught.value.smallest) > CALIBRATION.threshold_at_fmr(0.001)
    with pytest.raises(UnsupportedRateError, match=r"fpir 0.001 .* 0.003"):
        CALIBRATION.threshold_at_fpir(0.001, 10)


def test_a_larger_gallery_asks_for_more():
    thresholds = [CALIBRATION.threshold_at_fpir(0.01, size) for size in (1, 5, 20, 100, 600, 10_000)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] == pytest.approx(CALIBRATION.threshold_at_fmr(0.01))
    assert CALIBRATION.threshold_at_fpir(0.1, 20) < CALIBRATION.threshold_at_fpir(0.01, 20)


def test_chances_are_read_off_the_table_and_held_at_its_edges():
    assert CALIBRATION.chances.at(10, 0.01) == pytest.approx(9)
    assert CALIBRATION.chances.at(10, 0.1) == pytest.approx(8)
    assert CALIBRATION.chances.at(1000, 0.5) == pytest.approx(700)


@pytest.mark.parametrize(
    ("distances", "values"),
    [((0, 1), (1, 1)), ((0, 1), (1, 2)), ((1, 0), (2, 1)), ((0, 0), (2, 1)), ((0, 1, 2), (2, 1)), ((0,), (1,))],
)
def test_ratios_that_do_not_fall(distances, values):
    with pytest.raises(ValidationError):
        LikelihoodRatio(distances=distances, values=values)


@pytest.mark.parametrize(
    "changes",
    [{"fmr": (0.1, 0.1, 0.2, 0.3, 0.4, 0.5)}, {"fmr": (0, 0.1, 0.2, 0.3, 0.4, 0.5)}, {"fnmr": (0.1,)}],
)
def test_error_rates_that_are_no_table(changes):
    errors = CALIBRATION.errors
    with pytest.raises(ValidationError):
        type(errors).model_validate({**errors.model_dump(), **changes})


def test_chances_that_are_no_table():
    with pytest.raises(ValidationError):
        Chances(sizes=(1, 2), rates=(0.1,), shares=((1,),), n_strangers=10)
    with pytest.raises(ValidationError):
        Chances(sizes=(1,), rates=(0.1,), shares=((0,),), n_strangers=10)


@given(distance=st.floats(0, 4), prior=st.floats(0.01, 0.99))
def test_one_distance_is_told_as_many_are(distance: float, prior: float):
    calibration = CALIBRATION.with_prior(prior)
    assert calibration.similarity(distance) == pytest.approx(float(calibration.probability(distance)), abs=1e-12)
    assert calibration.likelihood_ratio.of(distance) == pytest.approx(float(calibration.log_likelihood_ratio(distance)))


def test_a_remembered_distance_is_that_of_its_own_rate_size_and_prior():
    for _ in range(2):
        for fpir, size in ((0.01, 20), (0.1, 20), (0.01, 5)):
            fresh = CALIBRATION.model_validate(CALIBRATION.model_dump())
            assert CALIBRATION.threshold_at_fpir(fpir, size) == fresh.threshold_at_fpir(fpir, size)
            assert CALIBRATION.with_prior(0.1).threshold_at_fpir(fpir, size) < fresh.threshold_at_fpir(fpir, size)
    for size in range(1, 600):
        CALIBRATION.threshold_at_fpir(0.01, size)
    assert len(CALIBRATION._distances_at_fpir) <= 256
