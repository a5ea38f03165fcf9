"""Protocol 5, faces of people not trained on: seeded splits of people, and two baselines.

A method is *fitted* on a split's training people, if it learns, and then embeds the photographs of the test people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor

from model.artifact import Artifact, load_artifact
from model.distances import Vectors
from model.embedder import Embedder
from model.manifest import Metric
from model.preprocess import Preprocess
from model.similarity import tensor_distances
from training.curves import equal_error_rate, fnmr_at
from training.data.faces import split_people
from training.data.labelled import LabelledImages, PreparedImages, prepare_pixels
from training.ensemble import join
from training.episodes import any_class_trials, judge_distances
from training.evaluate import embed
from training.fit import fit
from training.recipe import Recipe
from training.statistics import cluster_interval

SPLITS = 10
TEST_PEOPLE = 10
DRAWS = 100
FAR = 0.01
FIGURES = ("equal error rate", "true accept rate at false accept rate 1 %", "10-way one-shot")
"""The measured figures, in this order."""
COMPONENTS = 50
"""Principal components in the whitened baseline."""


@dataclass(frozen=True)
class Method:
    """A function from images to index-form vectors (n, dim), and the metric that compares them."""

    embed: Callable[[Sequence[Image.Image]], Vectors]
    metric: Metric


Fit = Callable[[LabelledImages, int], Method]
"""From the training people's photographs and the split's number to the method to test."""


@dataclass(frozen=True)
class Spread:
    """A figure over splits of people: ``values`` in percent, one per split."""

    name: str
    values: tuple[float, ...]
    n: int
    """Number of pairs or trials in one split."""

    @property
    def mean(self) -> float:
        """The mean over splits."""
        return float(np.mean(self.values))

    @property
    def sd(self) -> float:
        """The standard deviation over splits."""
        return float(np.std(self.values, ddof=1))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the mean, splits drawn with replacement."""
        return cluster_interval(np.array(self.values), np.arange(len(self.values)))


def evaluate_people(images: LabelledImages, learn: Fit, n_splits: int = SPLITS) -> tuple[Spread, Spread, Spread]:
    """Return EER, TAR at FAR 1 % and 10-way one-shot accuracy over splits of 30 training and 10 test people.

    EER and TAR are over all pairs of the test people's photographs. A one-shot trial has one photograph of each of the
    ten as support and another photograph as query. Ties are wrong.
    """
    rows = [_split(images, learn, split) for split in range(n_splits)]
    columns = zip(FIGURES, zip(*(row[0] for row in rows), strict=True), rows[0][1], strict=True)
    return tuple(Spread(name, tuple(values), n) for name, values, n in columns)  # type: ignore[return-value]


def _split(images: LabelledImages, learn: Fit, split: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    train, test = split_people(len(images.class_names), TEST_PEOPLE, split)
    return judge_method(learn(images.of_classes(train), split), images.of_classes(test), seed=split)


def judge_method(method: Method, people: LabelledImages, seed: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return EER, TAR at FAR 1 % and one-shot accuracy on ``people``, all in percent, and the n of each."""
    vectors, classes = method.embed(list(people.images)), np.array(people.classes)
    distances = tensor_distances(method.metric, *(torch.from_numpy(vectors),) * 2)
    found = distances.numpy()
    first, second = np.triu_indices(len(classes), 1)
    same = classes[first] == classes[second]
    genuine, impostor = found[first, second][same], found[first, second][~same]
    queries = len(classes) - len(people.class_names)
    trials = any_class_trials(_labels(people), n_draws=DRAWS, n_queries=queries, seed=seed)
    right = judge_distances(distances[trials.queries[:, None], trials.supports], torch.from_numpy(trials.answers))
    rates = (
        equal_error_rate(genuine, impostor),
        1 - fnmr_at(FAR, genuine, impostor),
        float(right.float().mean()),
    )
    return tuple(100 * rate for rate in rates), (len(same), len(same), len(trials.queries))


def _labels(people: LabelledImages) -> PreparedImages:
    """Return a set with labels but no pixels, to draw trials from."""
    labels: list[Tensor] = [torch.tensor(column) for column in (people.classes, people.sources, people.groups)]
    return PreparedImages(torch.empty(len(people.classes), 0), *labels)


# -- baselines -------------------------------------------------------------------------------------------------------


def pixels(_train: LabelledImages, _split: int) -> Method:
    """Baseline: Euclidean distance between raw pixels; nothing is learned."""
    return Method(_flat, "l2")


def whitened_pca(train: LabelledImages, _split: int) -> Method:
    """Baseline: PCA, whitened by the scatter within training people, compared by cosine.

    Whitening suppresses the variation between photographs of one person (Fisherfaces: Belhumeur, Hespanha and Kriegman
    1997).
    """
    points, classes = _flat(train.images), np.array(train.classes)
    components = PCA(min(COMPONENTS, len(points) - 1), svd_solver="randomized", random_state=0).fit(points)
    projected = components.transform(points).astype(np.float64)
    means = np.stack([projected[classes == person].mean(axis=0) for person in np.unique(classes)])
    around = projected - means[classes]
    spread, axes = np.linalg.eigh(around.T @ around / (len(points) - len(means)))
    whiten = axes / np.sqrt(np.maximum(spread, 1e-6 * spread.max()))

    def embed(images: Sequence[Image.Image]) -> Vectors:
        vectors = components.transform(_flat(images)) @ whiten
        unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit

    return Method(embed, "cosine")


# -- trained methods -------------------------------------------------------------------------------------------------


def trained(recipe: Recipe, datasets: Path, folder: Path) -> Fit:
    """Return a fit that trains ``recipe``, one of faces, separately for each split, into ``folder/split-N``.

    A finished split is not trained again; an interrupted one resumes.
    """

    def fit_split(train: LabelledImages, split: int) -> Method:
        data = recipe.data.model_copy(update={"split": split, "held_out": TEST_PEOPLE})
        artifact = fit(recipe.model_copy(update={"data": data}), datasets, folder / f"split-{split}")
        people = data.read(datasets).training.class_names
        if list(people) != list(train.class_names):
            raise ValueError(f"{recipe.name} is trained on other people than those of split {split}")
        return _by_artifact(artifact)

    return fit_split


def joined(members: Sequence[Path], datasets: Path, folder: Path) -> Fit:
    """Return a fit that joins, for each split, the members' artefacts ``split-N`` into ``folder/split-N``.

    The folders ``members`` must already hold the artefacts, as written by ``trained``.
    """

    def join_split(_train: LabelledImages, split: int) -> Method:
        parts = [load_artifact(member / f"split-{split}") for member in members]
        return _by_artifact(join(parts, datasets, folder / f"split-{split}", name=folder.name))

    return join_split


def _by_artifact(artifact: Artifact) -> Method:
    embedder, preprocess = Embedder(artifact, "cpu", threads=1), Preprocess(artifact.manifest.preprocess)
    return Method(lambda images: embed(embedder, prepare_pixels(images, preprocess)), embedder.metric)


def _flat(images: Sequence[Image.Image]) -> Vectors:
    return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in images])
