"""Measure everything in a report on an artefact; every random draw has a stated seed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from model.artifact import Artifact
from model.calibrating import compare, log_loss, reliability
from model.distances import Vectors, paired_distances
from model.embedder import Embedder
from model.manifest import Measurement
from model.preprocess import Preprocess
from training.curves import PairCurve, pair_curves
from training.data.labelled import prepare, prepare_pixels
from training.data.mnist import read_mnist
from training.data.omniglot import read_runs
from training.episodes import Bools, Ints, any_class_trials, judge_trials
from training.evaluate import embed, judge_runs
from training.history import read_history
from training.openset import Searches, auroc, fnir, fpir, oscr, search_galleries
from training.report.origin import origin_of
from training.report.pictures import class_map, worst_mistakes
from training.report.schema import (
    Cost,
    Figure,
    OpenSet,
    Point,
    Reliability,
    Report,
    Verification,
    WayPoint,
)
from training.statistics import cluster_interval
from training.subject import Part, Subject, open_subject
from training.verification import balanced_pairs

N_WAY = 20
TRIALS = 10_000
WAY_TRIALS = 4_000
TRIAL_SEED = 1
PAIRS = 20_000
PAIR_SEED = 2
DIGIT_DRAWS, DIGIT_QUERIES, DIGIT_SEED = 400, 100, 3
WITHIN_WAYS = (2, 3, 5, 7, 10, 15, 20)
ACROSS_WAYS = (2, 3, 5, 10, 20, 50, 100, 200)
SIZES = (5, 20, 100, 600)
FMRS = (0.1, 0.01, 0.001)
FPIR = 0.01
OPEN_SEED = 7
CURVE_SEED = 4
RELIABILITY_IMAGES = 3_000
COST_BATCH, COST_ROUNDS = 64, 9
_CURVE_KNOTS = 120


def measure(
    artifact: Artifact,
    datasets: Path,
    *,
    command: str,
    part: Part = "evaluation",
    trials: int = TRIALS,
    threads: int | None = None,
) -> Report:
    """Measure ``artifact`` on images that it was not trained on, with all protocols that these images allow.

    Args:
        command: the command to quote in the report.
        trials: one-shot trials of the main figure; it also caps the trials of the others.

    Raises:
        DatasetError: the data is not in ``datasets``.
    """
    subject = open_subject(artifact, datasets, part, threads)
    figures = [_one_shot(subject, trials), *_pairs_right(subject, trials)]
    if subject.is_omniglot:
        figures = [_official_runs(subject, datasets), *figures, _digits(subject, datasets)]
    n_mistakes, mistakes = worst_mistakes(subject, _main_way(subject), trials, TRIAL_SEED)
    return Report(
        origin=origin_of(subject, command),
        figures=tuple(figures),
        within_way=_ways(subject, WITHIN_WAYS, trials, within=True),
        across_way=_ways(subject, ACROSS_WAYS, trials, within=False),
        verification=_verification(subject),
        open_set=tuple(_open_set(subject, size) for size in SIZES if size <= 0.95 * subject.data.n_classes),
        reliability=_reliability(subject),
        mistakes=mistakes,
        n_mistakes=n_mistakes,
        map=class_map(subject),
        history=read_history(artifact.path),
        cost=embedding_cost(subject),
    )


def measurements(report: Report) -> tuple[Measurement, ...]:
    """Return the report's figures in the form of the manifest."""
    return tuple(
        Measurement(
            protocol=figure.protocol,
            value=figure.value,
            unit="% right",
            n=figure.n,
            low=figure.low,
            high=figure.high,
            seed=figure.seed,
            command="oneshot-train evaluate",
        )
        for figure in report.figures
    )


def _main_way(subject: Subject) -> int:
    return min(N_WAY, subject.most_way)


# -- one-shot --------------------------------------------------------------------------------------------------------


def _one_shot(subject: Subject, n_trials: int) -> Figure:
    n_way = _main_way(subject)
    trials = subject.trials(n_way, n_trials, TRIAL_SEED, within=True)
    who = ", all drawers" if subject.is_omniglot else ""
    name = f"{subject.data_name}{who}, {f'within-{subject.group} ' if subject.grouped else ''}{n_way}-way one-shot"
    right = judge_trials(subject.embedder.metric, subject.vectors, trials)
    return _figure("one-shot", name, right, trials.groups, subject.over, TRIAL_SEED)


def _official_runs(subject: Subject, datasets: Path) -> Figure:
    preprocess, runs = Preprocess(subject.manifest.preprocess), read_runs(datasets)

    def embed_images(images: Sequence[Image.Image]) -> Vectors:
        return embed(subject.embedder, prepare_pixels(images, preprocess))

    right = judge_runs(runs, embed_images, subject.embedder.metric)
    clusters = np.repeat(np.arange(right.shape[0]), right.shape[1])
    return _figure(
        "runs", "Omniglot, official 20 runs, 20-way one-shot", right.ravel(), clusters, f"{len(runs)} runs", None
    )


def _digits(subject: Subject, datasets: Path) -> Figure:
    """MNIST with one support of each digit and no fine-tuning; each draw of supports is a cluster."""
    data = prepare(read_mnist(datasets), Preprocess(subject.manifest.preprocess))
    vectors = embed(subject.embedder, data.pixels)
    trials = any_class_trials(data, n_draws=DIGIT_DRAWS, n_queries=DIGIT_QUERIES, seed=DIGIT_SEED)
    right = judge_trials(subject.embedder.metric, vectors, trials)
    name = "MNIST, 10-way one-shot, no fine-tuning"
    return _figure("mnist", name, right, trials.groups, f"{DIGIT_DRAWS} draws of supports", DIGIT_SEED)


def _ways(subject: Subject, ways: tuple[int, ...], n_trials: int, *, within: bool) -> tuple[WayPoint, ...]:
    if within and not subject.grouped:
        return ()  # only one curve, over all classes
    most = subject.most_way if within else subject.data.n_classes
    points = []
    for n_way in (way for way in ways if way <= most):
        trials = subject.trials(n_way, min(WAY_TRIALS, n_trials), TRIAL_SEED, within=within)
        right = judge_trials(subject.embedder.metric, subject.vectors, trials)
        points.append(WayPoint(n_way=n_way, accuracy=_point(right, trials.groups), n=len(right)))
    return tuple(points)


# -- pairs -----------------------------------------------------------------------------------------------------------


def _pairs_right(subject: Subject, n_trials: int) -> list[Figure]:
    """Classify balanced pairs as same or different at a calibrated probability of one half."""
    figures = []
    kinds = {"verification": False, "verification-within": True} if subject.grouped else {"verification": False}
    calibration, metric = subject.manifest.calibration.with_prior(0.5), subject.embedder.metric
    for key, within in kinds.items():
        pairs = balanced_pairs(subject.data, n_pairs=min(PAIRS, 2 * n_trials), within=within, seed=PAIR_SEED)
        found = paired_distances(metric, *(subject.vectors[pairs.images[:, side]] for side in (0, 1)))
        right = (calibration.probability(found) >= 0.5) == pairs.same
        clusters = subject.class_clusters[subject.classes[pairs.images[:, 0]]]
        place = "all classes" if not subject.grouped else f"one {subject.group}" if within else f"all {subject.group}s"
        name = f"{subject.data_name}, verification, negatives of {place}"
        figures.append(_figure(key, name, right, clusters, subject.over, PAIR_SEED))
    return figures


def _verification(subject: Subject) -> tuple[Verification, ...]:
    curves = pair_curves(
        subject.embedder.metric,
        subject.vectors,
        subject.classes,
        subject.groups,
        subject.data.sources.numpy(),
        wanted=FMRS,
        seed=CURVE_SEED,
    )
    return tuple(_error_rates(name, curve) for name, curve in curves.items())


def _error_rates(name: str, curve: PairCurve) -> Verification:
    # Thinned where both rates hardly change: a few hundred knots give the same curve.
    moved = np.cumsum(np.abs(np.diff(curve.fmr, prepend=0)) + np.abs(np.diff(curve.fnmr, prepend=1)))
    rare = np.log10(np.maximum(curve.fmr, 1e-7))
    key = np.round(moved * 60).astype(int) * 1000 + np.round(rare * 12).astype(int)
    kept = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    return Verification(
        name=name,
        n_genuine=curve.n_genuine,
        n_impostor=curve.n_impostor,
        distances=tuple(curve.distances[kept].tolist()),
        fmr=tuple(curve.fmr[kept].tolist()),
        fnmr=tuple(curve.fnmr[kept].tolist()),
        eer=Point(value=curve.eer.value, low=curve.eer.low, high=curve.eer.high),
        fnmr_at={
            f"{rate:g}": Point(value=found.value, low=found.low, high=found.high)
            for rate, found in curve.fnmr_at.items()
        },
    )


def _reliability(subject: Subject) -> Reliability:
    chosen = np.random.default_rng(OPEN_SEED).permutation(len(subject.classes))[:RELIABILITY_IMAGES]
    pairs = compare(subject.embedder.metric, subject.vectors[chosen], subject.classes[chosen])
    same = np.concatenate([np.ones(len(pairs.genuine)), np.zeros(len(pairs.impostor))])
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in (pairs.genuine, pairs.impostor)])
    ratio = subject.manifest.calibration.log_likelihood_ratio(np.concatenate([pairs.genuine, pairs.impostor]))
    predicted, observed, ece = reliability(ratio, same, weights)
    return Reliability(
        predicted=tuple(predicted.tolist()),
        observed=tuple(observed.tolist()),
        ece=ece,
        log_loss=log_loss(ratio, same, weights),
        n=len(same),
    )


# -- open set --------------------------------------------------------------------------------------------------------


def _open_set(subject: Subject, size: int) -> OpenSet:
    calibration = subject.manifest.calibration
    n_galleries = max(50, 2_000 // size) if size < 500 else 20
    found = search_galleries(
        subject.embedder.metric, subject.vectors, subject.classes, size=size, n_galleries=n_galleries, seed=OPEN_SEED
    )
    target = max(FPIR, calibration.chances.smallest_fpir)
    threshold = calibration.threshold_at_fpir(target, size)
    curve = _identification_curve(found)
    return OpenSet(
        size=size,
        target=target,
        fpir=_point(fpir(found, calibration, threshold), subject.class_clusters[found.stranger_class]),
        fnir=_point(fnir(found, calibration, threshold), subject.class_clusters[found.known_class]),
        auroc=auroc(found),
        oscr=oscr(found),
        n_known=len(found.known),
        n_strangers=len(found.strangers),
        curve_fpir=curve[0],
        curve_fnir=curve[1],
    )


def _identification_curve(found: Searches) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return FPIR and FNIR over thresholds, from few strangers identified to all of them."""
    rates = np.geomspace(max(1e-4, 10 / len(found.strangers)), 1, _CURVE_KNOTS)
    edges = np.quantile(found.strangers, rates)
    right = np.searchsorted(np.sort(found.known[found.right]), edges, side="right") / len(found.known)
    return tuple(rates.tolist()), tuple((1 - right).tolist())


# -- cost and figures ------------------------------------------------------------------------------------------------


def embedding_cost(subject: Subject, rounds: int = COST_ROUNDS) -> Cost:
    """Time the network alone, on one thread in batches of 64, with the engine that the service would choose."""
    embedder = Embedder(subject.artifact, "cpu", threads=1)
    repeats = np.resize(np.arange(len(subject.data.pixels)), COST_BATCH)
    batch = (subject.data.pixels[repeats].float() / 255).numpy()
    embedder.embed(batch)
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        embedder.embed(batch)
        rates.append(COST_BATCH / (time.perf_counter() - began))
    return Cost(
        engine=embedder.engine,
        images_per_second=statistics.median(rates),
        slowest=min(rates),
        fastest=max(rates),
        batch=COST_BATCH,
        rounds=rounds,
    )


def _figure(  # noqa: PLR0917 - the columns of a table
    key: str, protocol: str, right: Bools, clusters: Ints, over: str, seed: int | None
) -> Figure:
    point = _point(right, clusters)
    value, low, high = (round(100 * rate, 2) for rate in (point.value, point.low, point.high))
    return Figure(key=key, protocol=protocol, value=value, low=low, high=high, n=len(right), over=over, seed=seed)


def _point(outcomes: Bools, clusters: Ints) -> Point:
    low, high = cluster_interval(outcomes, clusters)
    return Point(value=float(outcomes.mean()), low=low, high=high)
