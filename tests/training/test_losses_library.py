"""The objectives against pytorch-metric-learning, pair by pair and gradient by gradient."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.manifest import SimilaritySpec
from model.similarity import build_similarity
from training.losses import Embedded, build_loss
from training.objectives import (
    ContrastiveObjective,
    MatchingObjective,
    SoftmaxObjective,
    TripletObjective,
)

P, K, D = 5, 3, 6
CLASSES = torch.tensor([7, 2, 5, 0, 4])
LABELS = CLASSES.repeat_interleave(K)


def make_embeddings():
    return torch.randn(P * K, D, generator=torch.Generator().manual_seed(1)).requires_grad_()


def of_both(part, kind, reference):
    """Loss and gradient of the project's objective, and of the library's, on the same embeddings."""
    similarity = build_similarity(SimilaritySpec(kind=kind, dim=D))
    ours, theirs = make_embeddings(), make_embeddings()
    loss = build_loss((part,), similarity, 8)
    value = loss(Embedded(ours.view(P, K, D), CLASSES))
    wanted = reference(theirs, loss)
    value.backward()
    wanted.backward()
    assert value.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert ours.grad.abs().max() > 0


def plain_l2():
    return distances.LpDistance(normalize_embeddings=False)


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_triplet_batch_hard(margin):
    def reference(embeddings, _):
        library = losses.TripletMarginLoss(margin=margin, distance=plain_l2(), reducer=reducers.MeanReducer())
        return library(embeddings, LABELS, miners.BatchHardMiner(distance=plain_l2())(embeddings, LABELS))

    of_both(TripletObjective(margin=margin), "euclidean", reference)


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_triplet_batch_all(margin):
    def reference(embeddings, _):
        return losses.TripletMarginLoss(margin=margin, distance=plain_l2())(embeddings, LABELS)

    of_both(TripletObjective(margin=margin, mining="all"), "euclidean", reference)


def test_contrastive():
    def reference(embeddings, _):
        powers = losses.ContrastiveLoss(
            pos_margin=0, neg_margin=3, distance=plain_l2(), reducer=reducers.DoNothingReducer()
        )
        found = powers(embeddings, LABELS)
        # The library's terms are linear in the distance; Hadsell's are squared.
        return (found["pos_loss"]["losses"].square().mean() + found["neg_loss"]["losses"].square().mean()) / 2

    of_both(ContrastiveObjective(margin=3), "euclidean", reference)


def test_softmax():
    def reference(embeddings, loss):
        library = losses.NormalizedSoftmaxLoss(8, D, temperature=1 / 10)
        with torch.no_grad():
            library.W.copy_(loss.losses[0].directions.T)
        return library(embeddings, LABELS)

    of_both(SoftmaxObjective(scale=10, smoothing=0), "cosine", reference)


def test_matching_of_two_images_is_nt_xent_between_views():
    """With K = 2 each round is the cross-entropy over cosines between the first and the second images (InfoNCE)."""

    def pair(embeddings):
        return F.normalize(embeddings.view(P, K, D)[:, :2], dim=2)

    similarity = build_similarity(SimilaritySpec(kind="cosine", dim=D))
    ours = make_embeddings()
    value = build_loss((MatchingObjective(scale=20),), similarity, 8)(Embedded(ours.view(P, K, D)[:, :2], CLASSES))
    first, second = pair(make_embeddings()).unbind(1)
    library = losses.NTXentLoss(temperature=1 / 20)
    rounds = [
        library(query, CLASSES, ref_emb=support, ref_labels=CLASSES.clone())
        for query, support in ((first, second), (second, first))
    ]
    assert value.item() == pytest.approx(torch.stack(rounds).mean().item(), rel=1e-4)
