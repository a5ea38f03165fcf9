"""Each objective against pair-by-pair arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.manifest import SimilaritySpec
from model.similarity import WeightedL1, build_similarity
from training.losses import Embedded, SoftmaxLoss, build_loss
from training.objectives import ContrastiveObjective, MatchingObjective, PairBceObjective, SoftmaxObjective

P, K, D = 4, 3, 5
EMBEDDINGS = torch.randn(P, K, D, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([7, 2, 5, 0])
BATCH = Embedded(EMBEDDINGS, CLASSES)


def images_and_labels():
    labels = [int(label) for label in CLASSES for _ in range(K)]
    return list(EMBEDDINGS.flatten(0, 1)), labels


def pairs(distance):
    images, labels = images_and_labels()
    same: list[float] = []
    different: list[float] = []
    for i in range(len(images)):
        for j in range(i + 1, len(images)):
            (same if labels[i] == labels[j] else different).append(float(distance(images[i], images[j])))
    assert (len(same), len(different)) == (P * K * (K - 1) // 2, K * K * P * (P - 1) // 2)
    return same, different


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_pair_bce():
    similarity = WeightedL1(D)
    with torch.no_grad():
        similarity.bias.fill_(0.3)
    same, different = pairs(lambda a, b: (0.1 * (a - b).abs()).sum())
    expected = mean([math.log1p(math.exp(d - 0.3)) for d in same]) + mean(
        [math.log1p(math.exp(0.3 - d)) for d in different]
    )
    loss = build_loss((PairBceObjective(),), similarity, 8)
    assert loss(BATCH).item() == pytest.approx(expected / 2, rel=1e-5)


def test_contrastive():
    similarity = build_similarity(SimilaritySpec(kind="euclidean", dim=D))
    same, different = pairs(lambda a, b: (a - b).norm())
    expected = mean([d**2 for d in same]) + mean([max(0, 3 - d) ** 2 for d in different])
    loss = build_loss((ContrastiveObjective(margin=3),), similarity, 8)
    assert loss(BATCH).item() == pytest.approx(expected / 2, rel=1e-5)


def test_matching():
    similarity = build_similarity(SimilaritySpec(kind="cosine", dim=D))
    terms = []
    for k in range(K):
        for query_class in range(P):
            scores = [
                20 * (F.cosine_similarity(EMBEDDINGS[query_class, k], EMBEDDINGS[other, k - 1], dim=0).item() - 1)
                for other in range(P)
            ]
            terms.append(math.log(sum(math.exp(score) for score in scores)) - scores[query_class])
    loss = build_loss((MatchingObjective(scale=20),), similarity, 8)
    assert loss(BATCH).item() == pytest.approx(mean(terms), rel=1e-4)


def test_softmax():
    loss = SoftmaxLoss(SoftmaxObjective(scale=10, smoothing=0), D, n_classes=8)
    images, labels = images_and_labels()
    terms = []
    for image, label in zip(images, labels, strict=True):
        scores = [10 * F.cosine_similarity(image, direction, dim=0).item() for direction in loss.directions]
        terms.append(math.log(sum(math.exp(score) for score in scores)) - scores[label])
    assert loss(BATCH).item() == pytest.approx(mean(terms), rel=1e-4)


def test_a_sum_weighs_its_parts():
    similarity = build_similarity(SimilaritySpec(kind="cosine", dim=D))
    single = [build_loss((part,), similarity, 8)(BATCH) for part in (MatchingObjective(), ContrastiveObjective())]
    both = build_loss((MatchingObjective(weight=2), ContrastiveObjective(weight=0.5)), similarity, 8)
    assert both(BATCH).item() == pytest.approx((2 * single[0] + 0.5 * single[1]).item(), rel=1e-5)


@pytest.mark.parametrize(("part", "kind"), [(PairBceObjective(), "cosine"), (SoftmaxObjective(), "euclidean")])
def test_objectives_that_do_not_fit_the_similarity(part, kind):
    with pytest.raises(ValueError, match="set similarity"):
        build_loss((part,), build_similarity(SimilaritySpec(kind=kind, dim=D)), 8)
