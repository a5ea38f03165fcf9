"""One-shot trials: N supports, one query, one correct answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.distances import Vectors
from model.manifest import Metric
from model.similarity import Similarity, tensor_distances
from training.data.labelled import DatasetError, PreparedImages

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

CHUNK = 500
"""Trials in one comparison; bounds the memory."""


@dataclass(frozen=True)
class Trials:
    """Seeded one-shot trials over a prepared set.

    ``supports`` (n_trials, n_way) and ``queries`` (n_trials,) are indices of its images. The query has the class of
    ``supports[i, answers[i]]`` and is another image of it. ``groups`` (n_trials,) is the alphabet, or other cluster,
    of each trial.
    """

    supports: Ints
    queries: Ints
    answers: Ints
    groups: Ints


def within_group_trials(data: PreparedImages, *, n_way: int, n_trials: int, seed: int, within: bool = True) -> Trials:
    """Draw trials with classes of one alphabet, supports by one drawer, and the query by another drawer.

    Args:
        within: False draws the other classes from all alphabets, which is easier.

    Raises:
        DatasetError: an alphabet has fewer than ``n_way`` classes, which would make its trials easier.
    """
    rng = np.random.default_rng(seed)
    classes, sources, groups = (part.numpy() for part in (data.classes, data.sources, data.groups))
    pools = groups if within else np.zeros_like(groups)
    members = [np.flatnonzero(pools == pool) for pool in range(int(pools.max()) + 1)]
    smallest = min(members, key=len)
    if len(smallest) < n_way:
        raise DatasetError(f"{n_way}-way trials need {n_way} classes in each group; one has {len(smallest)}")
    image_of = {(int(c), int(s)): index for index, (c, s) in enumerate(zip(classes, sources, strict=True))}
    queries = rng.integers(len(classes), size=n_trials)
    supports = np.empty((n_trials, n_way), np.int64)
    answers = rng.integers(n_way, size=n_trials)
    everyone = np.unique(sources)
    for trial, query in enumerate(queries):
        label = classes[query]
        rivals = members[pools[label]]
        others = rng.permutation(rivals[rivals != label])[: n_way - 1]
        way = np.insert(others, answers[trial], label)
        drawer = rng.choice(everyone[everyone != sources[query]])
        supports[trial] = [image_of[int(rival), int(drawer)] for rival in way]
    return Trials(supports, queries, answers, groups[classes[queries]])


def any_class_trials(data: PreparedImages, *, n_draws: int, n_queries: int, seed: int) -> Trials:
    """Draw one support of every class and ``n_queries`` other images, ``n_draws`` times; ``groups`` is the draw."""
    rng = np.random.default_rng(seed)
    classes = data.classes.numpy()
    members = [np.flatnonzero(classes == label) for label in range(data.n_classes)]
    supports = np.array([[rng.choice(images) for images in members] for _ in range(n_draws)])
    everyone = np.arange(len(classes))
    queries = np.stack([rng.choice(np.setdiff1d(everyone, way), n_queries, replace=False) for way in supports])
    order = np.stack([rng.permutation(data.n_classes) for _ in range(n_draws)])
    places = np.argsort(order, axis=1)
    answers = np.take_along_axis(places, classes[queries], axis=1)
    shuffled = np.take_along_axis(supports, order, axis=1)
    return Trials(
        np.repeat(shuffled, n_queries, axis=0),
        queries.ravel(),
        answers.ravel(),
        np.repeat(np.arange(n_draws), n_queries),
    )


def free_trials(data: PreparedImages, *, n_way: int, n_trials: int, seed: int) -> Trials:
    """Draw trials over ``n_way`` random classes of any group: one image of each, and another image as the query.

    For data where not every source has an image of every class. ``groups`` is the query's class.

    Raises:
        DatasetError: there are fewer than ``n_way`` classes, or a class has a single image.
    """
    rng = np.random.default_rng(seed)
    classes = data.classes.numpy()
    members = [np.flatnonzero(classes == label) for label in range(data.n_classes)]
    fewest = min(map(len, members))
    if data.n_classes < n_way or fewest < 2:
        raise DatasetError(
            f"{n_way}-way trials need {n_way} classes of two images; there are {data.n_classes}, one with {fewest}"
        )
    answers = rng.integers(n_way, size=n_trials)
    supports, queries = np.empty((n_trials, n_way), np.int64), np.empty(n_trials, np.int64)
    for trial, answer in enumerate(answers):
        way = rng.permutation(data.n_classes)[:n_way]
        supports[trial] = [rng.choice(members[label]) for label in way]
        others = members[way[answer]]
        queries[trial] = rng.choice(others[others != supports[trial, answer]])
    return Trials(supports, queries, answers, classes[queries])


def judge(metric: Metric, supports: Tensor, queries: Tensor, answers: Tensor) -> Tensor:
    """Whether each of t trials is correct: the right support is strictly the nearest to the query. A tie is wrong.

    Index-form ``supports`` have shape (t, n_way, dim), ``queries`` (t, dim), ``answers`` and the result (t,).
    """
    return judge_distances(tensor_distances(metric, queries[:, None], supports)[:, 0], answers)


def judge_distances(found: Tensor, answers: Tensor) -> Tensor:
    """Do what ``judge`` does, from distances ``found`` (t, n_way) of queries to their supports."""
    right = found.gather(1, answers[:, None])
    others = found.scatter(1, answers[:, None], torch.inf)
    return right[:, 0] < others.amin(1)


def judge_trials(metric: Metric, vectors: Vectors, trials: Trials) -> Bools:
    """Return which trials are correct, shape (n_trials,), from the index-form ``vectors`` of all images."""
    points = torch.from_numpy(vectors)
    chunks = [torch.split(torch.from_numpy(part), CHUNK) for part in (trials.supports, trials.queries, trials.answers)]
    verdicts = [judge(metric, points[way], points[query], answer) for way, query, answer in zip(*chunks, strict=True)]
    return torch.cat(verdicts).numpy()


@torch.inference_mode()
def embed_pixels(network: nn.Module, similarity: Similarity, pixels: Tensor, batch_size: int = 256) -> Vectors:
    """Return the index-form vectors (n, dim) of byte images (n, channels, size, size), in evaluation mode."""
    network.eval()
    similarity.eval()
    device = next(network.parameters()).device
    parts = []
    for part in torch.split(pixels, batch_size):
        images = (part.to(device).float() / 255).contiguous(memory_format=torch.channels_last)
        parts.append(similarity.index_form(network(images)).float().cpu())
    return np.ascontiguousarray(torch.cat(parts).numpy())
