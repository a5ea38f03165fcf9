"""Fit a ``Calibration`` to labelled vectors of classes that the network never saw.

It is not in ``training`` because the service also fits calibrations, to galleries with several shots a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from scipy.spatial import distance

from model.calibration import (
    LEAST_CLASSES,
    LEAST_GENUINE,
    LEAST_IMPOSTOR,
    Calibration,
    Chances,
    ErrorRates,
    Floats,
    LikelihoodRatio,
    Method,
    Quality,
)
from model.distances import Vectors
from model.manifest import Metric

Ints = npt.NDArray[np.int64]

TAIL_PAIRS = 30
"""Least number of pairs behind a counted rate; fewer are too noisy."""
TAIL_SHARE = 0.001
"""Share of the impostor pairs that the Pareto tail is fitted to: the nearest ones."""
FIT_PAIRS = 200_000
"""Most impostor pairs in the fit of probabilities; error rates use all of them."""
MOST_IMAGES = 4_000
"""Most images compared with each other; memory grows with the square."""
FOLDS = 5
BINS = 15
RESAMPLES = 1_000
ENROLLED = 20_000
"""Classes enrolled over all simulated galleries of one size."""
LEAST_GALLERIES = 500
STRANGERS = 1_000
"""Most strangers searched in one gallery."""
SIZES = (2, 5, 10, 20, 50, 100, 150, 200, 500, 1000)
FPIRS = (0.003, 0.01, 0.03, 0.1, 0.3)
LEAST_AUC = 0.6


class CalibrationError(ValueError):
    """There is too little data, or it does not separate the classes; ``str(error)`` says what is needed."""


@dataclass(frozen=True)
class Pairs:
    """Distances of all pairs of different images: of one class (``genuine``, with its class) and of two (``impostor``).

    ``weights``, one per impostor pair, sum to the number of impostor pairs.
    """

    genuine: Floats
    genuine_class: Ints
    impostor: Floats
    weights: Floats


def fit_calibration(
    metric: Metric,
    vectors: Vectors,
    classes: Ints,
    *,
    source: str,
    groups: Ints | None = None,
    within_share: float | None = None,
    prior: float = 0.5,
    seed: int = 0,
) -> Calibration:
    """Fit index-form ``vectors`` (n, dim) of ``classes`` (n,).

    Args:
        groups: the group (alphabet) of each image, (n,).
        within_share: the share of impostor pairs within one group where the calibration will be used. Look-alikes are
            mostly within a group, and a few held-out groups over-represent such pairs. None leaves pairs unweighted.

    Raises:
        CalibrationError: too few classes or pairs, or pairs of one class are not clearly nearer than others.
    """
    rng = np.random.default_rng(seed)
    if len(vectors) > MOST_IMAGES:
        kept = np.sort(rng.permutation(len(vectors))[:MOST_IMAGES])
        vectors, classes, groups = vectors[kept], classes[kept], None if groups is None else groups[kept]
    names, classes = np.unique(classes, return_inverse=True)
    check_enough(np.bincount(classes))
    pairs = compare(metric, vectors, classes, groups, within_share)
    _check(pairs)
    method, quality = _choose(pairs, rng)
    ratio = _METHODS[method](*_sample(pairs, rng))
    errors = _errors(pairs, rng)
    return Calibration(
        method=method,
        likelihood_ratio=ratio,
        prior=prior,
        errors=errors,
        chances=_chances(metric, vectors, classes, rng),
        quality=quality,
        n_classes=len(names),
        source=source,
    )


def compare(
    metric: Metric, vectors: Vectors, classes: Ints, groups: Ints | None = None, within_share: float | None = None
) -> Pairs:
    """Compare every pair of images once."""
    rows, columns = np.triu_indices(len(vectors), 1)
    found = _distances(metric, vectors)[rows, columns]
    same = classes[rows] == classes[columns]
    weights = np.ones(int((~same).sum()))
    if groups is not None and within_share is not None:
        within = (groups[rows] == groups[columns])[~same]
        share = float(within.mean())
        if 0 < share < 1:
            weights = np.where(within, within_share / share, (1 - within_share) / (1 - share))
    return Pairs(found[same], classes[rows][same], found[~same], weights)


def _distances(metric: Metric, vectors: Vectors) -> Floats:
    """Return all distances, shape (n, n), between vectors (n, dim): those of ``model.distances``, computed faster."""
    if metric == "cosine":
        found = 1 - (vectors @ vectors.T).astype(np.float64)
    else:
        found = distance.squareform(distance.pdist(vectors, "cityblock" if metric == "l1" else "euclidean"))
    least_zero: Floats = np.maximum(found, 0, out=found)
    return least_zero


def check_enough(images_per_class: Ints) -> None:
    """Check, before any embedding, that there are enough images to calibrate on.

    Raises:
        CalibrationError: there are too few classes, too few genuine pairs or too few impostor pairs.
    """
    n_classes, n_images = len(images_per_class), int(images_per_class.sum())
    n_genuine = int((images_per_class * (images_per_class - 1)).sum()) // 2
    n_impostor = n_images * (n_images - 1) // 2 - n_genuine
    if n_classes < LEAST_CLASSES or n_genuine < LEAST_GENUINE or n_impostor < LEAST_IMPOSTOR:
        raise CalibrationError(
            f"a calibration needs at least {LEAST_CLASSES} classes, {LEAST_GENUINE} pairs of images of one class and "
            f"{LEAST_IMPOSTOR} of two; there are {n_classes}, {n_genuine} and {n_impostor}"
        )


def _check(pairs: Pairs) -> None:
    n_impostor = len(pairs.impostor)
    impostor = np.sort(pairs.impostor)
    beaten = [np.searchsorted(impostor, pairs.genuine, side=side).mean() for side in ("left", "right")]
    nearer = 1 - float(np.mean(beaten)) / n_impostor  # a tie counts half
    if nearer < LEAST_AUC:
        raise CalibrationError(
            f"images of one class are nearer to each other than those of two in {100 * nearer:.0f} % of cases only; "
            f"below {100 * LEAST_AUC:.0f} % distances tell too little"
        )


# -- probabilities ---------------------------------------------------------------------------------------------------


def _sample(pairs: Pairs, rng: np.random.Generator, kept: npt.NDArray[np.bool_] | None = None) -> tuple[Floats, ...]:
    """Return distances, outcomes and weights for a fit; the weights of each outcome sum to 1."""
    genuine = pairs.genuine if kept is None else pairs.genuine[kept]
    chosen = rng.integers(len(pairs.impostor), size=min(FIT_PAIRS, len(pairs.impostor)))
    impostor, weights = pairs.impostor[chosen], pairs.weights[chosen]
    distances = np.concatenate([genuine, impostor])
    same = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    balance = np.concatenate([np.full(len(genuine), 1 / len(genuine)), weights / weights.sum()])
    return distances, same, balance


def _logistic(features: Floats, same: Floats, weights: Floats) -> Floats:
    """Return logistic regression coefficients, intercept last; those of the features are constrained to be negative."""
    design = np.column_stack([features, np.ones(len(features))])
    signs = 2 * same - 1

    def loss(beta: Floats) -> tuple[float, Floats]:
        margins = signs * (design @ beta)
        value = float(weights @ np.logaddexp(0, -margins))
        slope = -(weights * signs / (1 + np.exp(np.clip(margins, -500, 500)))) @ design
        return value, slope

    bounds = [(None, -1e-6)] * features.shape[1] + [(None, None)]
    start = np.append(np.full(features.shape[1], -1.0), 0.0)
    return np.asarray(optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _platt(distances: Floats, same: Floats, weights: Floats) -> LikelihoodRatio:
    """Platt scaling (1999): log-odds linear in the distance."""
    reach = float(distances.max())
    slope, intercept = _logistic(distances[:, None] / reach, same, weights)
    return LikelihoodRatio(distances=(0.0, reach), values=(float(intercept), float(intercept + slope)))


def _beta(distances: Floats, same: Floats, weights: Floats) -> LikelihoodRatio:
    """Beta calibration (Kull, Silva Filho and Flach 2017) of the score exp(-distance / scale)."""
    scale = float(np.median(distances[same == 0]))

    def features(at: Floats) -> Floats:
        steps = np.maximum(at / scale, 1e-3)
        return np.column_stack([steps, np.log(-np.expm1(-steps))])

    coefficients = _logistic(features(distances), same, weights)
    knots = np.linspace(1e-3 * scale, float(distances.max()), 100)
    values = np.column_stack([features(knots), np.ones(len(knots))]) @ coefficients
    return LikelihoodRatio(distances=tuple(knots.tolist()), values=tuple(values.tolist()))


def _isotonic(distances: Floats, same: Floats, weights: Floats) -> LikelihoodRatio:
    """Isotonic regression (Zadrozny and Elkan 2002), with straight lines between the middles of its steps."""
    order = np.argsort(distances, kind="stable")
    fitted = optimize.isotonic_regression(same[order], weights=weights[order], increasing=False)
    starts = fitted.blocks[:-1]
    middles = np.add.reduceat((distances * weights)[order], starts) / np.add.reduceat(weights[order], starts)
    floor = TAIL_PAIRS / len(distances)
    shares = np.clip(fitted.x[starts], floor, 1 - floor)
    # A slight slope keeps the ratio strictly decreasing: different distances never have the same probability.
    values = np.log(shares / (1 - shares)) - 1e-3 * middles / max(float(middles[-1]), 1e-9)
    kept = np.append(True, (np.diff(middles) > 1e-9) & (np.diff(values) < 0))
    knots, values = middles[kept], values[kept]
    if len(knots) < 2:
        knots, values = np.append(knots, knots[-1] + 1), np.append(values, values[-1] - 1e-3)
    return LikelihoodRatio(distances=tuple(knots.tolist()), values=tuple(values.tolist()))


_METHODS: dict[Method, Callable[[Floats, Floats, Floats], LikelihoodRatio]] = {
    "platt": _platt,
    "beta": _beta,
    "isotonic": _isotonic,
}


def _choose(pairs: Pairs, rng: np.random.Generator) -> tuple[Method, Quality]:
    """Return the method with the lowest cross-validated log-loss (folds over classes), and its quality."""
    fold_of = rng.integers(FOLDS, size=int(pairs.genuine_class.max()) + 1)[pairs.genuine_class]
    outcomes: dict[Method, list[tuple[Floats, Floats, Floats]]] = {method: [] for method in _METHODS}
    for fold in np.unique(fold_of):
        train, test = _sample(pairs, rng, fold_of != fold), _sample(pairs, rng, fold_of == fold)
        for method, fit in _METHODS.items():
            ratio = fit(*train).at(test[0])
            outcomes[method].append((ratio, test[1], test[2]))
    pooled = {
        method: tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        for method, parts in outcomes.items()
    }
    losses = {method: log_loss(*columns) for method, columns in pooled.items()}
    best = min(losses, key=losses.__getitem__)
    predicted, observed, ece = reliability(*pooled[best])
    quality = Quality(
        log_loss=losses[best],
        ece=ece,
        predicted=tuple(predicted.tolist()),
        observed=tuple(observed.tolist()),
        rejected={method: loss for method, loss in losses.items() if method != best},
    )
    return best, quality


def log_loss(ratio: Floats, same: Floats, weights: Floats) -> float:
    """Return the mean log-loss, in nats, of log-likelihood ratios at prior 0.5."""
    return float(weights @ np.logaddexp(0, np.where(same == 1, -ratio, ratio)) / weights.sum())


def reliability(ratio: Floats, same: Floats, weights: Floats) -> tuple[Floats, Floats, float]:
    """Return mean probability and observed share in each non-empty bin, and the expected calibration error."""
    probability = 1 / (1 + np.exp(-np.clip(ratio, -500, 500)))
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    mass, predicted, observed = (
        np.bincount(place, weights=weights * value, minlength=BINS) for value in (np.ones(len(same)), probability, same)
    )
    filled = mass > 0
    mass, means, shares = mass[filled], predicted[filled] / mass[filled], observed[filled] / mass[filled]
    return means, shares, float(mass @ np.abs(means - shares) / mass.sum())


# -- error rates -----------------------------------------------------------------------------------------------------


def _errors(pairs: Pairs, rng: np.random.Generator) -> ErrorRates:
    order = np.argsort(pairs.impostor)
    impostor, below = pairs.impostor[order], np.cumsum(pairs.weights[order]) / len(pairs.impostor)
    counted = np.unique(np.concatenate([np.geomspace(TAIL_PAIRS / len(impostor), 0.1, 50), np.arange(0.15, 1, 0.05)]))
    distances = impostor[np.minimum(np.searchsorted(below, counted), len(impostor) - 1)]
    tail_distances, tail_rates = _pareto_tail(impostor, below, first=float(distances[0]))
    distances, fmr = _ascending(np.append(tail_distances, distances), np.append(tail_rates, counted))
    fnmr, low, high = _fnmr(pairs, distances, rng)
    return ErrorRates(
        distances=tuple(distances.tolist()),
        fmr=tuple(fmr.tolist()),
        fnmr=tuple(fnmr.tolist()),
        fnmr_low=tuple(low.tolist()),
        fnmr_high=tuple(high.tolist()),
        n_impostor=len(impostor),
        n_genuine=len(pairs.genuine),
    )


def _pareto_tail(impostor: Floats, below: Floats, first: float) -> tuple[Floats, Floats]:
    """Return distances below ``first``, and their rates by a generalised Pareto fit to the nearest pairs.

    Pickands (1975): the tail of almost any distribution tends to this form.
    """
    n_tail = max(int(np.searchsorted(below, TAIL_SHARE)), 2 * TAIL_PAIRS)
    edge, share = float(impostor[n_tail]), float(below[n_tail])
    excess = edge - impostor[:n_tail]
    shape, _, scale = stats.genpareto.fit(excess[excess > 0], floc=0)
    distances = np.linspace(0, first, 20, endpoint=False)
    rates = share * stats.genpareto.sf(edge - distances, shape, loc=0, scale=scale)
    known = rates > 1e-12  # a Pareto with negative shape has an end point
    return distances[known], rates[known]


def _ascending(distances: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Sort by distance, and drop points at which the distance or the rate does not increase."""
    order = np.argsort(distances, kind="stable")
    kept: list[int] = []
    for place in order.tolist():
        if not kept or (distances[place] > distances[kept[-1]] and rates[place] > rates[kept[-1]]):
            kept.append(place)
    return distances[kept], rates[kept]


def _fnmr(pairs: Pairs, distances: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return the FNMR at each distance, and its 95 % interval over bootstrapped classes."""
    n_classes = int(pairs.genuine_class.max()) + 1
    size = (n_classes, len(distances) + 1)
    place = np.searchsorted(distances, pairs.genuine, side="left")
    per_bin = np.zeros(size)
    np.add.at(per_bin, (pairs.genuine_class, place), 1)
    missed = per_bin[:, ::-1].cumsum(1)[:, ::-1][:, 1:]  # per class, genuine pairs farther than each distance
    total = per_bin.sum(1)
    draws = rng.multinomial(n_classes, np.full(n_classes, 1 / n_classes), size=RESAMPLES)
    rates = (draws @ missed) / np.maximum(draws @ total, 1)[:, None]
    low, high = np.quantile(rates, [0.025, 0.975], axis=0)
    return missed.sum(0) / total.sum(), low, high


# -- chances ---------------------------------------------------------------------------------------------------------


def _chances(metric: Metric, vectors: Vectors, classes: Ints, rng: np.random.Generator) -> Chances:
    """Enrol random classes with one image each, search strangers, and count how often one is matched.

    The rates are compared with those of single pairs of the same images, unweighted. The ratio is the number of
    independent chances that look-alike classes amount to, as a share of their number.
    """
    n_classes = int(classes.max()) + 1
    # At least a tenth of the classes stay out of every gallery, so that the strangers are varied.
    sizes = [size for size in SIZES if size <= 0.9 * n_classes]
    found = _distances(metric, vectors)
    single = np.sort(found[classes[:, None] != classes[None, :]])
    rates = [rate for rate in FPIRS if rate * len(classes) >= TAIL_PAIRS] or [max(FPIRS)]
    shares = [tuple(1.0 for _ in rates)]  # one class is one chance
    for size in sizes:
        nearest = _nearest_strangers(found, classes, size, rng)
        shares.append(tuple(_share(nearest, single, size, rate) for rate in rates))
    return Chances(sizes=(1, *sizes), rates=tuple(rates), shares=tuple(shares), n_strangers=len(classes))


def _nearest_strangers(found: Floats, classes: Ints, size: int, rng: np.random.Generator) -> Floats:
    """Return distances of strangers to the nearest of ``size`` enrolled classes, over many random galleries."""
    counts = np.bincount(classes)
    by_class, firsts = np.argsort(classes, kind="stable"), np.cumsum(counts) - counts
    nearest = []
    for _ in range(max(LEAST_GALLERIES, ENROLLED // size)):
        enrolled = rng.permutation(len(counts))[:size]
        supports = by_class[firsts[enrolled] + (rng.random(size) * counts[enrolled]).astype(np.intp)]
        stranger = np.ones(len(counts), np.bool_)
        stranger[enrolled] = False
        strangers = rng.permutation(np.flatnonzero(stranger[classes]))[:STRANGERS]
        nearest.append(found[strangers[:, None], supports].min(1))
    return np.concatenate(nearest)


def _share(nearest: Floats, single: Floats, size: int, rate: float) -> float:
    """Return independent chances per class: (1 - F(d))^(share * size) = 1 - rate at the distance d of that rate."""
    distance = np.quantile(nearest, rate)
    below = float(np.searchsorted(single, distance, side="right")) / len(single)
    below = min(max(below, 1 / len(single)), 1 - 1e-9)
    # N classes are never worth more than N chances (Boole's inequality); anything above is sampling noise.
    return float(np.clip(np.log1p(-rate) / (size * np.log1p(-below)), 0.05, 1.0))
