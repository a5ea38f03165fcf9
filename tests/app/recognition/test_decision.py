"""From distances to known, unknown or ambiguous, with the expected error rates."""

from __future__ import annotations

import math

import pytest

from app.gallery.protocol import Match
from app.recognition.decision import (
    DEFAULT_ERROR_RATE,
    GalleryThreshold,
    decide,
    explain,
    gallery_threshold,
    pair_threshold,
)
from model.calibration import UnsupportedRateError
from testing.factories import make_calibration

CALIBRATION = make_calibration()
MATCHES = [Match("near", 0.1), Match("far", 0.9)]


def at(threshold: float, size: int = 2) -> GalleryThreshold:
    return GalleryThreshold(threshold, 0.01, size)


def test_candidates_keep_their_order_and_similarity_falls_with_distance():
    candidates = decide(MATCHES, CALIBRATION, at(0)).candidates
    assert [(c.label, c.distance) for c in candidates] == [("near", 0.1), ("far", 0.9)]
    assert candidates[0].similarity > candidates[1].similarity
    assert candidates[0].similarity == CALIBRATION.similarity(0.1)
    assert candidates[0].llr == pytest.approx(5 - 12 * 0.1)


def test_the_threshold_itself_is_enough():
    exactly = CALIBRATION.similarity(0.1)
    assert decide(MATCHES, CALIBRATION, at(exactly)).label == "near"
    assert decide(MATCHES, CALIBRATION, at(exactly + 1e-9)).label is None


def test_nobody_enrolled_is_unknown_at_any_threshold():
    decision = decide([], CALIBRATION, at(0, size=0))
    assert (decision.label, decision.candidates, decision.margin, decision.ambiguous) == (None, (), None, False)
    assert explain(decision, CALIBRATION) is None
    assert gallery_threshold(CALIBRATION, 0, fpir=None, threshold=0.3).fpir == 0


@pytest.mark.parametrize(("odds", "ambiguous"), [(2.9, True), (3.1, False)])
def test_less_than_3_to_1_is_ambiguous(odds, ambiguous):
    matches = [Match("a", 0.1), Match("b", 0.1 + math.log(odds) / 12)]
    decision = decide(matches, CALIBRATION, at(0.5))
    assert decision.margin == pytest.approx(math.log(odds), rel=1e-4)
    assert decision.ambiguous is ambiguous
    assert decide(matches, CALIBRATION, at(1.0)).ambiguous is False, "nobody was named"


def test_a_single_candidate_is_not_ambiguous():
    decision = decide(MATCHES[:1], CALIBRATION, at(0))
    assert (decision.margin, decision.ambiguous) == (None, False)


def test_one_class_is_a_verification():
    expected = pair_threshold(CALIBRATION, fmr=None, threshold=None)
    assert expected.fmr == DEFAULT_ERROR_RATE
    for size in (0, 1):
        found = gallery_threshold(CALIBRATION, size, fpir=None, threshold=None)
        assert found.threshold == pytest.approx(expected.threshold)
        assert found.fpir == DEFAULT_ERROR_RATE


@pytest.mark.parametrize("size", [2, 20, 80])
def test_n_chances_for_a_stranger_keep_the_rate(size):
    """At the threshold for N classes, the single-pair rate over all their chances combines to 1 %."""
    found = gallery_threshold(CALIBRATION, size, fpir=None, threshold=None)
    single = CALIBRATION.errors.fmr_at(CALIBRATION.distance_at(found.threshold))
    assert 1 - (1 - single) ** CALIBRATION.chances.at(size, 0.01) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("size", [1, 5, 50])
def test_a_given_threshold_tells_the_rates_that_would_have_given_it(size):
    wanted = gallery_threshold(CALIBRATION, size, fpir=0.05, threshold=None)
    given = gallery_threshold(CALIBRATION, size, fpir=None, threshold=wanted.threshold)
    assert given.fpir == pytest.approx(0.05, rel=0.05)
    pair = pair_threshold(CALIBRATION, fmr=0.1, threshold=None)
    again = pair_threshold(CALIBRATION, fmr=None, threshold=pair.threshold)
    assert again.fmr == pytest.approx(0.1)
    assert (again.fnmr.value, again.fnmr.low, again.fnmr.high) == pytest.approx((0.1, 0.08, 0.12))


@pytest.mark.parametrize(("threshold", "fmr"), [(0, 1), (1, 0)])
def test_the_ends_of_the_scale(threshold, fmr):
    found = pair_threshold(CALIBRATION, fmr=None, threshold=threshold)
    assert found.fmr == pytest.approx(fmr, abs=1e-4)
    assert gallery_threshold(CALIBRATION, 10, fpir=None, threshold=threshold).fpir == pytest.approx(fmr, abs=1e-3)


def test_rates_that_the_data_cannot_support():
    with pytest.raises(UnsupportedRateError):
        pair_threshold(CALIBRATION, fmr=1e-9, threshold=None)
    with pytest.raises(UnsupportedRateError):
        gallery_threshold(CALIBRATION, 5, fpir=1e-9, threshold=None)


def test_an_explanation_ranks_the_best_among_strangers():
    why = explain(decide([Match("near", 0.4), Match("far", 0.9)], CALIBRATION, at(0, size=10)), CALIBRATION)
    assert why is not None
    assert why.impostor_rank == pytest.approx(0.01)
    assert why.impostor_rank < why.stranger_rank < 10 * why.impostor_rank
    assert why.runner_up is not None
    assert why.runner_up.label == "far"


@pytest.mark.parametrize("count", [1, 3, 4, 20, 299, 300])
@pytest.mark.parametrize("size", [0, 1, 5, 1000])
def test_default_thresholds_of_thin_calibrations_are_rates_or_say_that_there_is_none(count: int, size: int):
    full = make_calibration()
    thin = full.model_copy(
        update={
            "errors": full.errors.model_copy(update={"n_impostor": count}),
            "chances": full.chances.model_copy(update={"n_strangers": count}),
        }
    )
    if count < 4:
        with pytest.raises(UnsupportedRateError):
            pair_threshold(thin, fmr=None, threshold=None)
        with pytest.raises(UnsupportedRateError):
            gallery_threshold(thin, size, fpir=None, threshold=None)
    else:
        pair = pair_threshold(thin, fmr=None, threshold=None)
        gallery = gallery_threshold(thin, size, fpir=None, threshold=None)
        assert pair.fmr == gallery.fpir == pytest.approx(max(0.01, 3 / count))
        assert 0 <= pair.threshold <= 1
        assert 0 <= gallery.threshold <= 1


def test_the_default_rate_is_answered_whatever_the_data_supports():
    few = CALIBRATION.model_copy(
        update={
            "errors": CALIBRATION.errors.model_copy(update={"n_impostor": 100}),
            "chances": CALIBRATION.chances.model_copy(update={"n_strangers": 50}),
        }
    )
    for rate in (None, DEFAULT_ERROR_RATE):
        assert pair_threshold(few, fmr=rate, threshold=None).fmr == pytest.approx(0.03)
        assert gallery_threshold(few, 10, fpir=rate, threshold=None).fpir == pytest.approx(0.06)
    with pytest.raises(UnsupportedRateError):
        pair_threshold(few, fmr=0.02, threshold=None)
    with pytest.raises(UnsupportedRateError):
        gallery_threshold(few, 10, fpir=0.02, threshold=None)
