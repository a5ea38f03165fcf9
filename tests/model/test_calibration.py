"""Probabilities fall with distance, thresholds invert them, and error curves interpolate what they were given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.calibration import ErrorCurve
from tests.factories import make_calibration

CALIBRATION = make_calibration()


def test_probability_by_hand():
    assert CALIBRATION.probability(5 / 12) == pytest.approx(0.5)
    assert CALIBRATION.probability([0.0])[0] == pytest.approx(1 / (1 + np.exp(-5)))


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_ranking_by_similarity_is_ranking_by_distance(distances):
    ordered = sorted(distances)
    probabilities = CALIBRATION.probability(ordered)
    assert (np.diff(probabilities) <= 0).all()
    assert (probabilities >= 0).all()
    assert (probabilities <= 1).all()


@given(st.floats(1e-6, 1 - 1e-6))
def test_distance_at_inverts_probability(probability):
    assert CALIBRATION.probability(CALIBRATION.distance_at(probability)) == pytest.approx(probability, rel=1e-6)


def test_a_lower_prior_asks_for_more():
    sceptical = CALIBRATION.model_copy(update={"prior": 0.01})
    assert sceptical.probability(0.2) < CALIBRATION.probability(0.2)
    assert sceptical.log_likelihood_ratio(0.2) == CALIBRATION.log_likelihood_ratio(0.2)


def test_thresholds_hold_at_the_measured_rates_and_go_on_beyond_them():
    curve = CALIBRATION.impostor
    for rate, distance in zip(curve.rates, curve.distances, strict=True):
        assert curve.distance_at(rate) == pytest.approx(distance)
        assert curve.rate_at(distance) == pytest.approx(rate)
        assert CALIBRATION.threshold_at_fmr(rate) == pytest.approx(float(CALIBRATION.probability(distance)))
    stricter = [curve.distance_at(rate) for rate in (1e-3, 1e-4, 1e-5, 1e-6)]
    assert stricter == sorted(stricter, reverse=True)
    assert stricter[2] == pytest.approx(0.1)  # the lowest tenfold of rates spans 0.1


@pytest.mark.parametrize(
    ("rates", "distances"),
    [((0.1, 0.1), (1, 2)), ((0.1, 0.2), (2, 1)), ((0.1, 0.2), (1, 2, 3)), ((0, 0.2), (1, 2)), ((0.5, 1), (1, 2))],
)
def test_curves_that_are_none(rates, distances):
    with pytest.raises(ValidationError):
        ErrorCurve(rates=rates, distances=distances, n_pairs=10)
