"""The three similarities.

Each similarity maps an embedding to its *index form*, a vector whose plain metric is the similarity's distance:

- ``WeightedL1``: Koch, Zemel and Salakhutdinov (2015) score p = sigmoid(bias - sum_j w_j |a_j - b_j|). With
  w >= 0 the weights move into the vectors, w_j |a_j - b_j| = |w_j a_j - w_j b_j|, so L1 distance on w * a
  ranks exactly as the head does. The paper leaves w unconstrained; here w = softplus(v), the only difference.
- ``Euclidean``: the contrastive net of Hadsell, Chopra and LeCun (2006); the vector is the embedding.
- ``Cosine``: unit vectors; distance 1 - <a, b>.

A smaller distance means more alike. ``model.distances`` computes it from index-form vectors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.manifest import METRICS, Metric, SimilarityKind, SimilaritySpec


class Similarity(nn.Module, ABC):
    """Base class: ``index_form`` maps embeddings of shape (n, dim) to vectors of the same shape."""

    kind: SimilarityKind

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @property
    def metric(self) -> Metric:
        """The metric that compares index-form vectors."""
        return METRICS[self.kind]

    @abstractmethod
    def index_form(self, embeddings: Tensor) -> Tensor:
        """Return the vectors, shape (n, dim), on which ``metric`` is this similarity's distance."""

    def pairwise(self, queries: Tensor, supports: Tensor) -> Tensor:
        """Return the differentiable distances, shape (n, m), of embeddings (n, dim) and (m, dim)."""
        return tensor_distances(self.metric, self.index_form(queries), self.index_form(supports))


class WeightedL1(Similarity):
    """Weighted L1 with a learned weight per feature, w = softplus(v) >= 0, and the bias of Koch's logit."""

    kind = "weighted-l1"

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        initial = math.log(math.expm1(0.1))  # softplus(initial) = 0.1
        self.raw_weight = nn.Parameter(torch.full((dim,), initial))
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def weight(self) -> Tensor:
        """The non-negative weights, shape (dim,)."""
        return F.softplus(self.raw_weight)

    def index_form(self, embeddings: Tensor) -> Tensor:
        """Scale each feature by its weight."""
        return embeddings * self.weight

    def logits(self, queries: Tensor, supports: Tensor) -> Tensor:
        """Return bias - distance, shape (n, m): the log-odds that two images are of one class."""
        return self.bias - self.pairwise(queries, supports)


class Euclidean(Similarity):
    """Plain Euclidean distance between embeddings."""

    kind = "euclidean"

    def index_form(self, embeddings: Tensor) -> Tensor:
        """Return the embeddings as they are."""
        return embeddings


class Cosine(Similarity):
    """Cosine distance between embeddings."""

    kind = "cosine"

    def index_form(self, embeddings: Tensor) -> Tensor:
        """Scale each embedding to length 1."""
        return F.normalize(embeddings, dim=1)


_CLASSES: dict[SimilarityKind, type[Similarity]] = {cls.kind: cls for cls in (WeightedL1, Euclidean, Cosine)}


def build_similarity(spec: SimilaritySpec) -> Similarity:
    """Return the similarity that ``spec`` describes, with initial parameters."""
    return _CLASSES[spec.kind](spec.dim)


def tensor_distances(metric: Metric, queries: Tensor, supports: Tensor) -> Tensor:
    """Return differentiable distances (..., n, m) between index-form vectors (..., n, dim) and (..., m, dim)."""
    if metric == "cosine":
        return 1 - queries @ supports.mT
    return torch.cdist(queries, supports, p=1.0 if metric == "l1" else 2.0)
