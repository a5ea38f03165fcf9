"""Views are fixed, start with the image itself, move it by what is said, and are pooled to unit vectors."""

from __future__ import annotations

import numpy as np
import pytest

from model.views import SHIFT, VIEWS, make_views, pool_views


def dots(n=3, channels=1, side=41):
    batch = np.zeros((n, channels, side, side), np.float32)
    for index in range(n):
        batch[index, :, 18 + index, 20] = 1
    return batch


@pytest.mark.parametrize("n_views", VIEWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_view_is_the_image_and_all_repeat(n_views, channels):
    batch = dots(channels=channels)
    views = make_views(batch, n_views)
    assert views.shape == (3 * n_views, channels, 41, 41)
    assert views.dtype == np.float32
    assert np.array_equal(views[::n_views], batch)
    assert np.array_equal(views, make_views(batch, n_views))
    assert views.min() >= 0
    assert views.max() <= 1


def test_views_are_moved_by_the_shift_and_balanced():
    views = make_views(dots(n=1), 9)[:, 0]
    rows, columns = np.mgrid[:41, :41]
    mass = views.sum((1, 2))
    moves = np.stack([(views * grid).sum((1, 2)) / mass for grid in (columns, rows)], 1) - [20, 18]
    assert np.abs(moves).max() == pytest.approx(SHIFT * 41, abs=1e-3)
    for n_views in VIEWS:
        assert moves[:n_views].mean(0) == pytest.approx([0, 0], abs=1e-3)
    assert len({tuple(move) for move in moves.round(3).tolist()}) == 9


def test_fewer_views_are_the_first_of_more():
    few, many = make_views(dots(n=1), 3), make_views(dots(n=1), 9)
    assert np.array_equal(few, many[:3])


def test_a_bright_edge_does_not_get_a_dark_rim():
    assert make_views(np.ones((1, 1, 20, 20), np.float32), 9) == pytest.approx(1)


def test_a_number_of_views_that_there_is_not():
    with pytest.raises(ValueError, match="1, 3, 5, 9, not 2"):
        make_views(dots(), 2)


def test_pooling():
    vectors = np.array([[1, 0], [0, 1], [1, 1], [3, 4], [3, 4], [3, 4]], np.float32)
    assert pool_views(vectors, 3, "l2").tolist() == pytest.approx(np.array([[2 / 3, 2 / 3], [3, 4]]))
    assert pool_views(vectors, 3, "cosine") == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))
    assert pool_views(vectors, 1, "cosine") is vectors
