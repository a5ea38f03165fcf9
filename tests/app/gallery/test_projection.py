"""The map of a gallery: what the 2D projection preserves, and neighbours by true distance."""

from __future__ import annotations

import numpy as np
import pytest

from app.gallery.projection import nearest, project
from model.distances import distances
from model.manifest import Metric


def vectors(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def test_a_plane_is_kept_as_it_is():
    flat = np.random.default_rng(1).normal(size=(30, 2))
    turned, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    lifted = (flat @ turned[:2]).astype(np.float32) + np.float32(3)
    found = project(lifted)
    assert found.explained == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        distances("l2", found.points.astype(np.float32), found.points.astype(np.float32)),
        distances("l2", lifted, lifted),
        atol=1e-4,
    )


def test_the_axes_are_those_of_greatest_variance_and_always_point_the_same_way():
    cloud = vectors(200) * np.array([9, 1, 1, 1, 5, 1, 1, 1], np.float32)
    first, again = project(cloud), project(cloud[::-1].copy())
    spread = first.points.var(axis=0).sum() / cloud.astype(np.float64).var(axis=0).sum()
    assert first.explained == pytest.approx(spread)
    assert first.points.var(axis=0)[0] > first.points.var(axis=0)[1]
    np.testing.assert_allclose(first.points.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(again.points[::-1], first.points, atol=1e-6)


@pytest.mark.parametrize("found", [vectors(0), vectors(1), np.ones((3, 8), dtype=np.float32)])
def test_where_nothing_varies_all_lie_in_the_middle(found: np.ndarray):
    np.testing.assert_array_equal(project(found).points, np.zeros((len(found), 2)))


def test_two_points_lie_on_one_axis():
    points = project(vectors(2)).points
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-6)
    assert abs(points[0, 0] - points[1, 0]) > 0.1


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("n", [0, 1, 3, 600])
def test_neighbours_are_the_nearest_by_the_one_distance(metric: Metric, n: int):
    cloud = vectors(n)
    found = nearest(metric, cloud, 5)
    assert found.places.shape == found.distances.shape == (n, max(0, min(5, n - 1)))
    for place in range(0, n, 97):
        to_all = distances(metric, cloud[place : place + 1], cloud)[0]
        others = sorted((float(to_all[other]), other) for other in range(n) if other != place)[:5]
        assert found.places[place].tolist() == [other for _, other in others]
        assert found.distances[place].tolist() == [distance for distance, _ in others]
