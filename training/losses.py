"""The objectives. Each maps the embeddings of a batch of P classes x K images to a scalar loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.similarity import Similarity, WeightedL1, tensor_distances
from training.objectives import (
    ContrastiveObjective,
    DistillObjective,
    MatchingObjective,
    Objective,
    PairBceObjective,
    SoftmaxObjective,
    TripletObjective,
)
from training.teacher import Teacher


@dataclass(frozen=True)
class Embedded:
    """An embedded batch: ``embeddings`` (P, K, dim) of ``classes`` (P,).

    ``taught`` (P, K, any dim) holds the teacher's vectors of the same images, if there is a teacher.
    """

    embeddings: Tensor
    classes: Tensor
    taught: Tensor | None = None

    def masks(self) -> tuple[Tensor, Tensor]:
        """Return masks (P*K, P*K) of pairs of different images: of one class, and of two classes."""
        labels = self.classes.repeat_interleave(self.embeddings.shape[1])
        same = labels[:, None] == labels[None, :]
        oneself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        return same & ~oneself, ~same


class SoftmaxLoss(nn.Module):
    """Softmax over the cosines to one learned direction per training class (normalised softmax)."""

    def __init__(self, part: SoftmaxObjective, dim: int, n_classes: int) -> None:
        super().__init__()
        self.part = part
        self.directions = nn.Parameter(torch.randn(n_classes, dim) / dim**0.5)

    def forward(self, batch: Embedded) -> Tensor:
        """Return the mean cross-entropy."""
        images = F.normalize(batch.embeddings.flatten(0, 1), dim=1)
        logits = self.part.scale * images @ F.normalize(self.directions, dim=1).T
        targets = batch.classes.repeat_interleave(batch.embeddings.shape[1])
        return F.cross_entropy(logits, targets, label_smoothing=self.part.smoothing)


class MatchingLoss(nn.Module):
    """One-shot classification among the batch's P classes (Vinyals et al., "Matching Networks", 2016).

    Image k of every class is the support of image k + 1, cyclically, so each image is query and support once.
    """

    def __init__(self, part: MatchingObjective, similarity: Similarity) -> None:
        super().__init__()
        self.part = part
        self.similarity = similarity

    def forward(self, batch: Embedded) -> Tensor:
        """Return the mean cross-entropy over all K rounds."""
        targets = torch.arange(len(batch.classes), device=batch.classes.device)
        losses = [
            F.cross_entropy(-self.part.scale * self.similarity.pairwise(query, support), targets)
            for query, support in zip(batch.embeddings.unbind(1), batch.embeddings.roll(1, 1).unbind(1), strict=True)
        ]
        return torch.stack(losses).mean()


class PairBceLoss(nn.Module):
    """Binary cross-entropy of Koch's head over all pairs of the batch."""

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        if not isinstance(similarity, WeightedL1):
            raise ValueError("the pair-bce objective is the weighted-l1 head's; set similarity = 'weighted-l1'")
        self.similarity = similarity

    def forward(self, batch: Embedded) -> Tensor:
        """Return the mean of the mean loss of same and of different pairs."""
        images = batch.embeddings.flatten(0, 1)
        logits = self.similarity.logits(images, images)
        same, different = batch.masks()
        return (F.softplus(-logits[same]).mean() + F.softplus(logits[different]).mean()) / 2


class ContrastiveLoss(nn.Module):
    """Hadsell, Chopra and LeCun (2006): pull same pairs together, push different ones beyond a margin."""

    def __init__(self, part: ContrastiveObjective, similarity: Similarity) -> None:
        super().__init__()
        self.part = part
        self.similarity = similarity

    def forward(self, batch: Embedded) -> Tensor:
        """Return the mean of the mean loss of same and of different pairs."""
        images = batch.embeddings.flatten(0, 1)
        distance = self.similarity.pairwise(images, images)
        same, different = batch.masks()
        pull = distance[same].square().mean()
        push = F.relu(self.part.margin - distance[different]).square().mean()
        return (pull + push) / 2


class TripletLoss(nn.Module):
    """Triplets of an anchor, an image of its class and one of another (Schroff et al., "FaceNet", 2015).

    ``hard`` is the batch-hard variant of Hermans, Beyer and Leibe ("In defense of the triplet loss", 2017), the mean
    over all anchors; ``all`` is their batch-all variant, the mean over triplets with a non-zero loss.
    """

    def __init__(self, part: TripletObjective, similarity: Similarity) -> None:
        super().__init__()
        self.part = part
        self.similarity = similarity

    def forward(self, batch: Embedded) -> Tensor:
        """Return the mean over triplets of max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
        images = batch.embeddings.flatten(0, 1)
        distance = self.similarity.pairwise(images, images)
        same, different = batch.masks()
        if self.part.mining == "hard":
            farthest = distance.masked_fill(~same, -torch.inf).amax(1)
            nearest = distance.masked_fill(~different, torch.inf).amin(1)
            return F.relu(farthest - nearest + self.part.margin).mean()
        costs = F.relu(distance[:, :, None] - distance[:, None, :] + self.part.margin)
        costs = costs[same[:, :, None] & different[:, None, :]]
        return costs.sum() / (costs > 0).sum().clamp_min(1)


class DistillLoss(nn.Module):
    """Distillation of the teacher's similarities within the batch (Hinton et al. 2015).

    The KL divergence between teacher and student of each image's softmax over its similarities to all others.
    """

    def __init__(self, part: DistillObjective, similarity: Similarity, teacher: Teacher | None) -> None:
        super().__init__()
        if teacher is None:
            raise ValueError("the distill objective needs a teacher")
        self.part = part
        self.similarity = similarity
        self.metric = teacher.similarity.metric

    def forward(self, batch: Embedded) -> Tensor:
        """Return the mean over the batch's images.

        Raises:
            ValueError: the batch has no teacher vectors.
        """
        if batch.taught is None:
            raise ValueError("the distill objective needs a teacher")
        images, taught = batch.embeddings.flatten(0, 1), batch.taught.flatten(0, 1)
        learned = self._rivalry(self.similarity.pairwise(images, images))
        wanted = self._rivalry(tensor_distances(self.metric, taught, taught))
        return F.kl_div(learned, wanted, log_target=True, reduction="batchmean")

    def _rivalry(self, distance: Tensor) -> Tensor:
        """Return each row's log-softmax over all other images, shape (n, n - 1)."""
        n = len(distance)
        others = ~torch.eye(n, dtype=torch.bool, device=distance.device)
        return F.log_softmax(-self.part.scale * distance[others].view(n, n - 1), dim=1)


class SumLoss(nn.Module):
    """The weighted sum of several objectives."""

    def __init__(self, losses: list[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in losses]
        self.losses = nn.ModuleList(loss for _, loss in losses)

    def forward(self, batch: Embedded) -> Tensor:
        """Return the weighted sum."""
        terms = [weight * loss(batch) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(terms).sum()


def build_loss(
    objectives: tuple[Objective, ...], similarity: Similarity, n_classes: int, teacher: Teacher | None = None
) -> SumLoss:
    """Return the weighted sum of a recipe's objectives.

    Raises:
        ValueError: an objective does not fit the similarity.
    """
    return SumLoss([(part.weight, _build(part, similarity, n_classes, teacher)) for part in objectives])


def _build(part: Objective, similarity: Similarity, n_classes: int, teacher: Teacher | None) -> nn.Module:
    _check(part, similarity)
    loss: nn.Module
    match part:
        case SoftmaxObjective():
            loss = SoftmaxLoss(part, similarity.dim, n_classes)
        case MatchingObjective():
            loss = MatchingLoss(part, similarity)
        case PairBceObjective():
            loss = PairBceLoss(similarity)
        case ContrastiveObjective():
            loss = ContrastiveLoss(part, similarity)
        case TripletObjective():
            loss = TripletLoss(part, similarity)
        case DistillObjective():
            loss = DistillLoss(part, similarity, teacher)
    return loss


def _check(part: Objective, similarity: Similarity) -> None:
    if part.kind == "softmax" and similarity.kind != "cosine":  # its logits are cosines
        raise ValueError(f"the softmax objective does not train {similarity.kind}; set similarity = 'cosine'")
