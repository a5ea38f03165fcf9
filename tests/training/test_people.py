"""Protocol 5 on synthetic people, and its two baselines on the real faces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_faces import write_faces
from training.data.faces import read_faces
from training.people import TEST_PEOPLE, Method, Spread, evaluate_people, pixels, whitened_pca


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return read_faces(write_faces(tmp_path_factory.mktemp("faces"), people=16))


def test_faces_that_differ_are_told_apart(people):
    error, accepted, right = evaluate_people(people, pixels, n_splits=2)
    assert (len(error.values), error.n, right.n) == (2, 4950, 9000)
    assert error.mean < 1
    assert accepted.mean > 99
    assert right.mean > 99


def test_a_method_is_fitted_on_other_people_than_it_is_tested_on(people):
    seen = []

    def fit(train, split):
        seen.append((len(train.class_names), split, {image.tobytes() for image in train.images}))

        def embed(images):
            assert len(images) == 10 * TEST_PEOPLE
            assert not seen[-1][2] & {image.tobytes() for image in images}
            return np.zeros((len(images), 2), np.float32)

        return Method(embed, "l2")

    error, accepted, right = evaluate_people(people, fit, n_splits=3)
    assert [row[:2] for row in seen] == [(6, 0), (6, 1), (6, 2)]
    assert right.mean == 0, "a constant model: ties are wrong"
    assert accepted.mean == 0
    assert error.mean == pytest.approx(50)


def test_a_random_method_is_right_once_in_ten(people):
    rng = np.random.default_rng(0)
    method = Method(lambda images: rng.normal(size=(len(images), 6)).astype(np.float32), "l2")
    error, _, right = evaluate_people(people, lambda train, split: method, n_splits=4)
    assert right.mean == pytest.approx(10, abs=4)
    assert error.mean == pytest.approx(50, abs=4)


def test_a_spread_by_hand():
    spread = Spread("rate", (1.0, 2.0, 6.0), 10)
    assert spread.mean == pytest.approx(3)
    assert spread.sd == pytest.approx(7**0.5)
    assert 1 <= spread.interval[0] < 3 < spread.interval[1] <= 6


needs_data = pytest.mark.skipif("ONESHOT_DATASETS" not in os.environ, reason="ONESHOT_DATASETS names no data")


@needs_data
@pytest.mark.parametrize(
    ("fit", "error", "right", "tolerance"),
    # Published figures of these baselines on these splits. Raw pixels depend only on the draws of the trials; the
    # number of components and details of the whitening move the other baseline by half a point.
    [(pixels, 15.4, 80.4, 0.5), (whitened_pca, 7.8, 90.1, 1.0)],
)
def test_the_baselines_are_what_is_known_of_them(fit, error, right, tolerance):
    found_error, _, found_right = evaluate_people(read_faces(Path(os.environ["ONESHOT_DATASETS"])), fit)
    assert found_error.mean == pytest.approx(error, abs=tolerance)
    assert found_right.mean == pytest.approx(right, abs=tolerance)
