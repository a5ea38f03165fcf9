"""Protocol 1, the official one-shot runs, for any function that embeds or compares images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.distances import Vectors
from model.embedder import Embedder
from model.manifest import Metric
from model.similarity import tensor_distances
from training.data.omniglot import Run
from training.episodes import Bools, judge_distances

EmbedImages = Callable[[Sequence[Image.Image]], Vectors]
CompareImages = Callable[[Sequence[Image.Image], Sequence[Image.Image]], Vectors]
"""From queries and supports to their distances (n_queries, n_supports)."""

BATCH = 64


def judge_runs(runs: Sequence[Run], embed: EmbedImages, metric: Metric) -> Bools:
    """Return which queries of the official runs are correct, (n_runs, n_queries): nearest support, ties wrong."""

    def compare(queries: Sequence[Image.Image], supports: Sequence[Image.Image]) -> Vectors:
        points = [torch.from_numpy(embed(images)) for images in (queries, supports)]
        # One query per row, as in a trial: its rounding must not depend on the other queries.
        found = tensor_distances(metric, points[0][:, None], points[1].expand(len(queries), *points[1].shape))
        return found[:, 0].numpy()

    return judge_comparisons(runs, compare)


def judge_comparisons(runs: Sequence[Run], compare: CompareImages) -> Bools:
    """Do what ``judge_runs`` does, for a comparison that returns distances instead of embeddings."""
    rows = [
        judge_distances(torch.from_numpy(compare(run.queries, run.supports)), torch.tensor(run.answers)) for run in runs
    ]
    return torch.stack(rows).numpy()


def embed(embedder: Embedder, pixels: Tensor) -> Vectors:
    """Return the index-form vectors (n, dim) of byte images (n, channels, size, size), as the service computes them."""
    return np.concatenate([embedder.embed((part.float() / 255).numpy()) for part in torch.split(pixels, BATCH)])
