"""The protocols that figures are measured by. Each reads the evaluation set, so it is run once per frozen recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from model.artifact import Artifact
from model.distances import Vectors, paired_distances
from model.manifest import Measurement, Metric
from model.preprocess import Preprocess
from training.data.labelled import PreparedImages, prepare, prepare_pixels
from training.data.mnist import read_mnist
from training.data.omniglot import Run, read_omniglot, read_runs
from training.episodes import Bools, any_class_trials, embed_pixels, judge, judge_trials, within_group_trials
from training.statistics import cluster_interval
from training.verification import balanced_pairs

EmbedImages = Callable[[Sequence[Image.Image]], Vectors]

ALL_DRAWERS_TRIALS = 10_000
ALL_DRAWERS_SEED = 1
VERIFICATION_PAIRS = 20_000
VERIFICATION_SEED = 2
DIGIT_DRAWS = 400
DIGIT_QUERIES = 100
DIGIT_SEED = 3
N_WAY = 20
COMMAND = "oneshot-train evaluate"


def judge_runs(runs: Sequence[Run], embed: EmbedImages, metric: Metric) -> Bools:
    """Return which queries of the official runs are right, shape (n_runs, n_queries): argmax per query, ties wrong."""
    rows = []
    for run in runs:
        supports, queries = (torch.from_numpy(embed(images)) for images in (run.supports, run.queries))
        each = supports.expand(len(queries), *supports.shape)
        rows.append(judge(metric, each, queries, torch.tensor(run.answers)))
    return torch.stack(rows).numpy()


def evaluate(artifact: Artifact, datasets: Path) -> tuple[Measurement, ...]:
    """Measure on Omniglot the official 20 runs, all drawers and verification, and on MNIST 10-way one-shot.

    Raises:
        DatasetError: the data is not in ``datasets``.
    """
    preprocess = Preprocess(artifact.manifest.preprocess)
    data = prepare(read_omniglot(datasets, "evaluation"), preprocess)
    vectors = embed_pixels(artifact.network, artifact.similarity, data.pixels)
    return (
        _official_runs(artifact, datasets, preprocess),
        _all_drawers(artifact, data, vectors),
        _verification(artifact, data, vectors, within=False),
        _verification(artifact, data, vectors, within=True),
        _digits(artifact, datasets, preprocess),
    )


def _official_runs(artifact: Artifact, datasets: Path, preprocess: Preprocess) -> Measurement:
    def embed(images: Sequence[Image.Image]) -> Vectors:
        return embed_pixels(artifact.network, artifact.similarity, prepare_pixels(images, preprocess))

    right = judge_runs(read_runs(datasets), embed, artifact.manifest.metric)
    runs = np.repeat(np.arange(right.shape[0]), right.shape[1])
    return _accuracy("Omniglot, official 20 runs, 20-way one-shot", right.ravel(), runs)


def _all_drawers(artifact: Artifact, data: PreparedImages, vectors: Vectors) -> Measurement:
    trials = within_group_trials(data, n_way=N_WAY, n_trials=ALL_DRAWERS_TRIALS, seed=ALL_DRAWERS_SEED)
    right = judge_trials(artifact.manifest.metric, vectors, trials)
    return _accuracy("Omniglot, all drawers, within-alphabet 20-way one-shot", right, trials.groups, ALL_DRAWERS_SEED)


def _verification(artifact: Artifact, data: PreparedImages, vectors: Vectors, *, within: bool) -> Measurement:
    """Judge balanced pairs by "more likely the same than not", at the calibration's threshold of one half."""
    pairs = balanced_pairs(data, n_pairs=VERIFICATION_PAIRS, within=within, seed=VERIFICATION_SEED)
    manifest = artifact.manifest
    distance = paired_distances(manifest.metric, vectors[pairs.images[:, 0]], vectors[pairs.images[:, 1]])
    right = (manifest.calibration.with_prior(0.5).probability(distance) >= 0.5) == pairs.same
    place = "of one alphabet" if within else "of all alphabets"
    return _accuracy(f"Omniglot, verification, negatives {place}", right, pairs.groups, VERIFICATION_SEED)


def _digits(artifact: Artifact, datasets: Path, preprocess: Preprocess) -> Measurement:
    """One support of each digit, no fine-tuning; a draw of supports is a cluster."""
    data = prepare(read_mnist(datasets), preprocess)
    vectors = embed_pixels(artifact.network, artifact.similarity, data.pixels)
    trials = any_class_trials(data, n_draws=DIGIT_DRAWS, n_queries=DIGIT_QUERIES, seed=DIGIT_SEED)
    right = judge_trials(artifact.manifest.metric, vectors, trials)
    return _accuracy("MNIST, 10-way one-shot, no fine-tuning", right, trials.groups, DIGIT_SEED)


def _accuracy(protocol: str, right: Bools, clusters: npt.NDArray[np.int64], seed: int | None = None) -> Measurement:
    low, high = cluster_interval(right, clusters)
    percent = [round(100 * value, 2) for value in (float(right.mean()), low, high)]
    return Measurement(
        protocol=protocol,
        value=percent[0],
        unit="% right",
        n=len(right),
        low=percent[1],
        high=percent[2],
        seed=seed,
        command=COMMAND,
    )
