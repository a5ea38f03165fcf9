"""The index form represents each similarity exactly, and the distance equals plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.distances import distances
from model.manifest import SimilaritySpec
from model.similarity import WeightedL1, build_similarity, tensor_distances

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(3, 6)).astype(np.float32)
SUPPORTS = RNG.normal(size=(5, 6)).astype(np.float32)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_koch_head_is_l1_distance_in_index_form():
    head = WeightedL1(6)
    with torch.no_grad():
        head.raw_weight.copy_(torch.randn(6, generator=torch.Generator().manual_seed(1)))
        head.bias.fill_(0.7)
        logits = head.logits(torch.from_numpy(QUERIES), torch.from_numpy(SUPPORTS))
        weight = head.weight.numpy()
        index_queries, index_supports = (
            head.index_form(torch.from_numpy(vectors)).numpy() for vectors in (QUERIES, SUPPORTS)
        )
    expected = [[0.7 - sum(weight * np.abs(a - b)) for b in SUPPORTS] for a in QUERIES]
    assert (weight >= 0).all()
    assert np.allclose(logits, expected, atol=1e-5)
    assert np.allclose(0.7 - distances("l1", index_queries, index_supports), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("metric", "queries", "supports", "formula"),
    [
        ("l1", QUERIES, SUPPORTS, lambda a, b: np.abs(a - b).sum()),
        ("l2", QUERIES, SUPPORTS, lambda a, b: np.sqrt(((a - b) ** 2).sum())),
        ("cosine", unit(QUERIES), unit(SUPPORTS), lambda a, b: 1 - (a * b).sum()),
    ],
)
def test_distances_pair_by_pair(metric, queries, supports, formula):
    expected = [[formula(a, b) for b in supports] for a in queries]
    assert np.allclose(distances(metric, queries, supports), expected, atol=1e-6)
    tensors = tensor_distances(metric, torch.from_numpy(queries), torch.from_numpy(supports))
    assert np.allclose(tensors, expected, atol=1e-5)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_a_vector_is_at_distance_zero_from_itself_and_never_below(metric):
    vectors = unit(RNG.normal(size=(50, 64))).astype(np.float32)
    found = distances(metric, vectors, vectors)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert np.allclose(np.diag(found), 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["weighted-l1", "euclidean", "cosine"])
def test_smaller_is_more_alike_and_gradients_flow(kind):
    similarity = build_similarity(SimilaritySpec(kind=kind, dim=4))
    near = torch.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    far = torch.tensor([[1.1, 2.0, 3.0, 4.0], [-4.0, 3.0, -2.0, 1.0]])
    found = similarity.pairwise(near, far)
    assert found[0, 0] < found[0, 1]
    found.sum().backward()
    assert near.grad is not None
    assert near.grad.abs().sum() > 0
