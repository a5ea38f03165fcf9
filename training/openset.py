"""Open-set identification: galleries of N classes, queries of enrolled classes and of strangers.

FPIR: the share of strangers that are identified as an enrolled class. FNIR: the share of queries of enrolled classes
that are not identified correctly. AUROC: how well the best similarity separates enrolled from stranger. OSCR (Dhamija,
Günther and Boult 2018): the area under the curve of correctly identified queries against identified strangers, over all
thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from model.calibration import Calibration, Floats
from model.distances import Vectors
from model.manifest import Metric
from model.similarity import tensor_distances

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOST_QUERIES = 2_000
"""Most queries of each kind in one gallery."""


@dataclass(frozen=True)
class Searches:
    """The nearest enrolled class of every query: distance (n,), whether it is correct, and the query's class."""

    known: Floats
    right: Bools
    known_class: Ints
    strangers: Floats
    stranger_class: Ints


def search_galleries(
    metric: Metric, vectors: Vectors, classes: Ints, *, size: int, n_galleries: int, seed: int
) -> Searches:
    """Enrol one random image of each of ``size`` random classes and search the others, ``n_galleries`` times.

    A query is never an enrolled image. A tie between the right class and another is wrong.
    """
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(vectors)
    n_classes = int(classes.max()) + 1
    members = [np.flatnonzero(classes == label) for label in range(n_classes)]
    columns: list[tuple[Floats, Bools, Ints, Floats, Ints]] = []
    for _ in range(n_galleries):
        enrolled = rng.permutation(n_classes)[:size]
        supports = np.array([rng.choice(members[label]) for label in enrolled])
        inside = np.isin(classes, enrolled)
        inside_queries = _some(np.setdiff1d(np.flatnonzero(inside), supports), rng)
        outside_queries = _some(np.flatnonzero(~inside), rng)
        found = tensor_distances(metric, points[inside_queries], points[supports])
        near, place = found.min(1)
        alone = (found == near[:, None]).sum(1).numpy() == 1
        strange = tensor_distances(metric, points[outside_queries], points[supports]).amin(1)
        truth = classes[inside_queries]
        columns.append(
            (
                _floats(near),
                alone & (enrolled[place.numpy()] == truth),
                truth,
                _floats(strange),
                classes[outside_queries],
            )
        )
    return Searches(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _some(queries: Ints, rng: np.random.Generator) -> Ints:
    return queries if len(queries) <= MOST_QUERIES else rng.choice(queries, MOST_QUERIES, replace=False)


def _floats(found: torch.Tensor) -> Floats:
    return found.clamp_min(0).double().numpy()


def fpir(searches: Searches, calibration: Calibration, threshold: float) -> Bools:
    """Whether each stranger is identified at the similarity ``threshold``."""
    return np.asarray(calibration.probability(searches.strangers) >= threshold)


def fnir(searches: Searches, calibration: Calibration, threshold: float) -> Bools:
    """Whether each query of an enrolled class is not identified correctly at ``threshold``."""
    return ~(searches.right & (calibration.probability(searches.known) >= threshold))


def auroc(searches: Searches) -> float:
    """Return the area under the ROC curve of enrolled against stranger, by the nearest distance."""
    known = np.concatenate([np.ones(len(searches.known)), np.zeros(len(searches.strangers))])
    return float(roc_auc_score(known, -np.concatenate([searches.known, searches.strangers])))


def oscr(searches: Searches) -> float:
    """Return the area under correctly identified queries against identified strangers, over all thresholds."""
    edges = np.unique(np.concatenate([searches.known, searches.strangers]))
    named_right = np.searchsorted(np.sort(searches.known[searches.right]), edges, side="right") / len(searches.known)
    named_strange = np.searchsorted(np.sort(searches.strangers), edges, side="right") / len(searches.strangers)
    return float(np.trapezoid(np.append(0, named_right), np.append(0, named_strange)))
