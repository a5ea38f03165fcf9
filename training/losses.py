"""The objectives. Each takes the embeddings of a batch, shape (P, K, dim), and the classes, shape (P,)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from model.similarity import Similarity, WeightedL1
from training.recipe import (
    ContrastiveObjective,
    MatchingObjective,
    Objective,
    SoftmaxObjective,
)


class SoftmaxLoss(nn.Module):
    """Softmax over the cosines to one learned direction per training class (normalised softmax)."""

    def __init__(self, part: SoftmaxObjective, dim: int, n_classes: int) -> None:
        super().__init__()
        self.part = part
        self.directions = nn.Parameter(torch.randn(n_classes, dim) / dim**0.5)

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        images = F.normalize(embeddings.flatten(0, 1), dim=1)
        logits = self.part.scale * images @ F.normalize(self.directions, dim=1).T
        targets = classes.repeat_interleave(embeddings.shape[1])
        return F.cross_entropy(logits, targets, label_smoothing=self.part.smoothing)


class MatchingLoss(nn.Module):
    """One-shot classification among the batch's P classes (Vinyals et al., "Matching Networks", 2016).

    Image k of every class is the support of image k + 1, cyclically, so that each image is query and support once.
    """

    def __init__(self, part: MatchingObjective, similarity: Similarity) -> None:
        super().__init__()
        self.part = part
        self.similarity = similarity

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Return the mean cross-entropy over all K rounds."""
        targets = torch.arange(len(classes), device=classes.device)
        losses = [
            F.cross_entropy(-self.part.scale * self.similarity.pairwise(query, support), targets)
            for query, support in zip(embeddings.unbind(1), embeddings.roll(1, 1).unbind(1), strict=True)
        ]
        return torch.stack(losses).mean()


class PairBceLoss(nn.Module):
    """Binary cross-entropy of Koch's head over all pairs of the batch."""

    def __init__(self, similarity: WeightedL1) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Return the mean of the mean loss of same and of different pairs."""
        images = embeddings.flatten(0, 1)
        logits = self.similarity.logits(images, images)
        same, different = _pair_masks(classes, embeddings.shape[1])
        return (F.softplus(-logits[same]).mean() + F.softplus(logits[different]).mean()) / 2


class ContrastiveLoss(nn.Module):
    """Hadsell, Chopra and LeCun (2006): same pairs are drawn together, different ones pushed beyond a margin."""

    def __init__(self, part: ContrastiveObjective, similarity: Similarity) -> None:
        super().__init__()
        self.part = part
        self.similarity = similarity

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Return the mean of the mean loss of same and of different pairs."""
        images = embeddings.flatten(0, 1)
        distance = self.similarity.pairwise(images, images)
        same, different = _pair_masks(classes, embeddings.shape[1])
        pull = distance[same].square().mean()
        push = F.relu(self.part.margin - distance[different]).square().mean()
        return (pull + push) / 2


class SumLoss(nn.Module):
    """The weighted sum of several objectives."""

    def __init__(self, losses: list[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in losses]
        self.losses = nn.ModuleList(loss for _, loss in losses)

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Return the weighted sum."""
        terms = [weight * loss(embeddings, classes) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(terms).sum()


def _pair_masks(classes: Tensor, n_images: int) -> tuple[Tensor, Tensor]:
    """Return masks (P*K, P*K) of pairs of two images, each pair once: of one class, and of two."""
    labels = classes.repeat_interleave(n_images)
    same = labels[:, None] == labels[None, :]
    once = torch.ones_like(same).triu(1)
    return same & once, ~same & once


def build_loss(objectives: tuple[Objective, ...], similarity: Similarity, n_classes: int) -> SumLoss:
    """Return the weighted sum that a recipe asks for.

    Raises:
        ValueError: an objective does not fit the similarity.
    """
    return SumLoss([(part.weight, _build(part, similarity, n_classes)) for part in objectives])


def _build(part: Objective, similarity: Similarity, n_classes: int) -> nn.Module:
    if isinstance(part, SoftmaxObjective):
        if similarity.kind != "cosine":
            raise ValueError("the softmax objective trains cosines; set similarity = 'cosine'")
        return SoftmaxLoss(part, similarity.dim, n_classes)
    if isinstance(part, MatchingObjective):
        return MatchingLoss(part, similarity)
    if isinstance(part, ContrastiveObjective):
        return ContrastiveLoss(part, similarity)
    if not isinstance(similarity, WeightedL1):
        raise ValueError("the pair-bce objective is the weighted-l1 head's; set similarity = 'weighted-l1'")
    return PairBceLoss(similarity)
