"""From distances to known or unknown."""

from __future__ import annotations

import pytest

from app.decision import (
    DEFAULT_FALSE_MATCH_RATE,
    decide,
    identification_threshold,
    similarity_of,
    verification_threshold,
)
from app.gallery import Match
from tests.factories import make_calibration

CALIBRATION = make_calibration()
MATCHES = [Match("near", 0.1), Match("far", 0.9)]


def test_candidates_keep_their_order_and_similarity_falls_with_distance():
    candidates = decide(MATCHES, CALIBRATION, 0).candidates
    assert [(c.label, c.distance) for c in candidates] == [("near", 0.1), ("far", 0.9)]
    assert candidates[0].similarity > candidates[1].similarity
    assert candidates[0].similarity == similarity_of(CALIBRATION, 0.1)


def test_the_threshold_itself_is_enough():
    exactly = similarity_of(CALIBRATION, 0.1)
    assert decide(MATCHES, CALIBRATION, exactly).label == "near"
    assert decide(MATCHES, CALIBRATION, exactly + 1e-9).label is None


def test_nobody_enrolled_is_unknown_at_any_threshold():
    decision = decide([], CALIBRATION, 0)
    assert (decision.label, decision.candidates) == (None, ())


def test_one_class_is_a_verification():
    expected = CALIBRATION.threshold_at_fmr(DEFAULT_FALSE_MATCH_RATE)
    assert verification_threshold(CALIBRATION) == expected
    for classes in (0, 1):
        assert identification_threshold(CALIBRATION, classes) == pytest.approx(expected)


def test_n_chances_for_a_stranger_keep_the_rate():
    """At the threshold for N classes, their chances at its single rate reach 1 % together."""
    for classes in (2, 20, 80):
        distance = CALIBRATION.distance_at(identification_threshold(CALIBRATION, classes))
        single = CALIBRATION.errors.fmr_at(distance)
        chances = CALIBRATION.chances.at(classes, DEFAULT_FALSE_MATCH_RATE)
        assert 1 - (1 - single) ** chances == pytest.approx(DEFAULT_FALSE_MATCH_RATE, rel=1e-6)
