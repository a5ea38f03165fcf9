"""Verification error rates over all thresholds: FMR, FNMR, their curve, and intervals bootstrapped over groups.

FMR: the share of impostor pairs that are accepted. FNMR: the share of genuine pairs that are rejected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.distances import Vectors
from model.manifest import Metric
from model.similarity import tensor_distances

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
AnyFloats = npt.NDArray[np.floating]

RESAMPLES = 1_000
MOST_IMAGES = 4_000
"""Most images whose impostor pairs are counted; all genuine pairs are counted."""
KNOTS = 400
MOST_CLUSTERS = 50
"""Most clusters in the bootstrap. More groups (or classes) are merged into this many, which bounds the memory."""
_ROWS = 500


def equal_error_rate(genuine: AnyFloats, impostor: AnyFloats) -> float:
    """Return the equal error rate for distances of genuine and impostor pairs."""
    edges = np.unique(np.concatenate([genuine, impostor]))
    return float(_crossing(*_rates(edges, genuine, impostor)))


def fnmr_at(fmr: float, genuine: AnyFloats, impostor: AnyFloats) -> float:
    """Return the FNMR at the largest distance threshold with an FMR of at most ``fmr``."""
    edges = np.unique(np.concatenate([genuine, impostor]))
    matches, misses = _rates(edges, genuine, impostor)
    allowed = np.flatnonzero(matches <= fmr)
    return float(misses[allowed[-1]]) if len(allowed) else 1.0


def _rates(edges: AnyFloats, genuine: AnyFloats, impostor: AnyFloats) -> tuple[Floats, Floats]:
    """Return FMR and FNMR when pairs up to each edge are accepted."""
    matches = np.searchsorted(np.sort(impostor), edges, side="right") / len(impostor)
    return matches, 1 - np.searchsorted(np.sort(genuine), edges, side="right") / len(genuine)


def _crossing(fmr: Floats, fnmr: Floats) -> Floats:
    """Return the rate at which rising FMR and falling FNMR cross along the last axis, linear between the knots.

    Below the first knot nothing is accepted: FMR 0, FNMR 1.
    """
    edge = (*fmr.shape[:-1], 1)
    fmr, fnmr = np.concatenate([np.zeros(edge), fmr], -1), np.concatenate([np.ones(edge), fnmr], -1)
    met = fmr >= fnmr
    after = np.where(met.any(-1), met.argmax(-1), fmr.shape[-1] - 1)[..., None]
    left, right = (np.take_along_axis(fnmr - fmr, place, -1)[..., 0] for place in (after - 1, after))
    start, end = (np.take_along_axis(fmr, place, -1)[..., 0] for place in (after - 1, after))
    crossing: Floats = start + np.clip(left / np.maximum(left - right, 1e-12), 0, 1) * (end - start)
    return crossing


@dataclass(frozen=True)
class Estimate:
    """A rate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairCurve:
    """The error rates of one kind of impostor pair: ``fmr`` and ``fnmr`` at ascending ``distances``, shape (k,)."""

    distances: Floats
    fmr: Floats
    fnmr: Floats
    eer: Estimate
    fnmr_at: dict[float, Estimate]
    """FNMR by allowed FMR."""
    n_genuine: int
    n_impostor: int


def pair_curves(
    metric: Metric,
    vectors: Vectors,
    classes: Ints,
    groups: Ints,
    sources: Ints,
    *,
    wanted: tuple[float, ...],
    seed: int,
) -> dict[str, PairCurve]:
    """Compare index-form ``vectors`` (n, dim) in pairs from two different sources, and compute the error rates.

    Returns:
        ``within`` (impostors of one group, where the look-alikes are) and ``across`` (of two groups), or only ``all``
        if there is one group.

    In a bootstrap sample a pair counts as often as both its groups are drawn (classes, if there is one group). The
    interval therefore covers other alphabets, not only other pairs.
    """
    clusters = (groups if groups.max() > 0 else classes) % MOST_CLUSTERS
    counts, edges = _count(metric, vectors, classes, groups, clusters, sources, seed)
    names = {"within": "within", "across": "across"} if groups.max() > 0 else {"within": "all"}
    kept = {shown: counts[name] for name, shown in names.items() if counts[name].sum() > 0}
    return {name: _curve(edges, counts["genuine"], impostor, wanted, seed) for name, impostor in kept.items()}


def _count(  # noqa: PLR0917 - one pass over all pairs
    metric: Metric, vectors: Vectors, classes: Ints, groups: Ints, clusters: Ints, sources: Ints, seed: int
) -> tuple[dict[str, Floats], Floats]:
    """Return histograms (n_clusters, n_clusters, bins) of the distances of each kind of pair, and the bins' edges."""
    rng = np.random.default_rng(seed)
    edges = _edges(metric, vectors, classes, rng)
    n_clusters, bins = int(clusters.max()) + 1, len(edges) + 1
    counts = {name: np.zeros(n_clusters * n_clusters * bins) for name in ("genuine", "within", "across")}
    points = torch.from_numpy(vectors)

    def add(rows: Ints, columns: Ints, kinds: tuple[str, ...]) -> None:
        found = tensor_distances(metric, points[rows], points[columns]).clamp_min(0).numpy()
        place = np.searchsorted(edges, found, side="left")
        place += (clusters[rows][:, None] * n_clusters + clusters[columns][None]) * bins
        # Each pair once, and never from one source.
        usable = (rows[:, None] < columns[None]) & (sources[rows][:, None] != sources[columns][None])
        same = classes[rows][:, None] == classes[columns][None]
        near = groups[rows][:, None] == groups[columns][None]
        for kind, chosen in (("genuine", same), ("within", ~same & near), ("across", ~near)):
            if kind in kinds:
                counts[kind] += np.bincount(place[usable & chosen], minlength=n_clusters * n_clusters * bins)

    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        add(members, members, ("genuine",))
    chosen = np.sort(rng.permutation(len(classes))[:MOST_IMAGES])
    for start in range(0, len(chosen), _ROWS):
        add(chosen[start : start + _ROWS], chosen, ("within", "across"))
    return {name: count.reshape(n_clusters, n_clusters, bins) for name, count in counts.items()}, edges


def _edges(metric: Metric, vectors: Vectors, classes: Ints, rng: np.random.Generator) -> Floats:
    """Return the distances at which the rates are computed: dense where either kind of pair is rare."""
    points = torch.from_numpy(vectors)
    chosen = rng.permutation(len(classes))[:1_500]
    found = tensor_distances(metric, points[chosen], points[chosen]).clamp_min(0).double().numpy()
    first, second = np.triu_indices(len(chosen), 1)
    same = (classes[chosen][:, None] == classes[chosen][None])[first, second]
    pairs = found[first, second]
    impostor = np.quantile(pairs[~same], np.concatenate([np.geomspace(1e-5, 0.1, KNOTS), np.linspace(0.1, 1, 50)]))
    genuine = np.quantile(pairs[same], np.linspace(0, 1, KNOTS)) if same.any() else np.zeros(1)
    return np.unique(np.concatenate([genuine, impostor]))


def _curve(edges: Floats, genuine: Floats, impostor: Floats, wanted: tuple[float, ...], seed: int) -> PairCurve:
    n_clusters = len(genuine)
    share = np.full(n_clusters, 1 / n_clusters)
    draws = np.random.default_rng(seed).multinomial(n_clusters, share, size=RESAMPLES).astype(np.float64)
    weights = np.concatenate([np.ones((1, n_clusters)), draws])  # the first row is the estimate itself
    fmr, misses = _shares(weights, impostor), 1 - _shares(weights, genuine)
    eer = _crossing(fmr, misses)
    at = {
        rate: np.array([np.interp(rate, row, miss) for row, miss in zip(fmr, misses, strict=True)]) for rate in wanted
    }
    return PairCurve(
        distances=edges,
        fmr=fmr[0],
        fnmr=misses[0],
        eer=_estimate(eer),
        fnmr_at={rate: _estimate(values) for rate, values in at.items()},
        n_genuine=int(genuine.sum()),
        n_impostor=int(impostor.sum()),
    )


def _shares(weights: Floats, counts: Floats) -> Floats:
    """Return the share of pairs up to each edge, (n_weights, n_edges); a pair's weight is its clusters' product."""
    rows, columns = np.nonzero(counts.sum(axis=2))
    pairs = weights[:, rows] * weights[:, columns]
    # A pair inside one cluster has that cluster's weight, not its square.
    pairs[:, rows == columns] = weights[:, rows[rows == columns]]
    total = np.cumsum(pairs @ counts[rows, columns], axis=1)
    shares: Floats = total[:, :-1] / np.maximum(total[:, -1:], 1)
    return shares


def _estimate(values: Floats) -> Estimate:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))
