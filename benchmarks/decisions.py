"""Calibration, FMR, FPIR and FNIR on classes never trained on: how reliable "same" and "unknown" are.

Compares the threshold for the gallery's size with a fixed one, on Omniglot's evaluation alphabets and on MNIST:

    python -m benchmarks.decisions            # writes docs/decisions.md, docs/decisions.json and plots
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import typer

from benchmarks.characters import served_artifact
from model import DEFAULT_ARTIFACT
from model.artifact import Artifact
from model.calibrating import compare, log_loss, reliability
from model.calibration import Calibration
from model.embedder import Embedder
from model.preprocess import Preprocess
from training.data.labelled import LabelledImages, PreparedImages, prepare
from training.data.mnist import read_mnist
from training.data.omniglot import read_omniglot
from training.evaluate import embed
from training.openset import Ints, Searches, auroc, fnir, fpir, oscr, search_galleries
from training.statistics import cluster_interval

mpl.use("Agg")
from matplotlib import pyplot as plt

SEED = 7
SIZES = {"Omniglot": (5, 20, 100, 600), "MNIST": (5,)}
PAIR_IMAGES = 3_000
FMRS = (0.1, 0.01, 0.001)
FPIR = 0.01
DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Rate:
    """A measured rate with its 95 % interval, and the target rate."""

    target: float
    measured: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Identification:
    """Results for one gallery size: the threshold for this size against a fixed one."""

    size: int
    fpir: Rate
    fpir_fixed: Rate
    fnir: Rate
    fnir_fixed: Rate
    auroc: float
    oscr: float


@dataclass(frozen=True)
class Report:
    """All results on one data set."""

    data: str
    ece: float
    log_loss: float
    predicted: list[float]
    observed: list[float]
    fmr: list[Rate]
    fnmr: list[Rate]
    identification: list[Identification]


def measure(name: str, artifact: Artifact, images: LabelledImages) -> Report:
    """Measure everything on one data set."""
    calibration = artifact.manifest.calibration
    prepared = prepare(images, Preprocess(artifact.manifest.preprocess))
    vectors = embed(Embedder(artifact, "cpu", 1), prepared.pixels)
    classes = prepared.classes.numpy()
    rng = np.random.default_rng(SEED)
    chosen = rng.permutation(len(classes))[:PAIR_IMAGES]
    pairs = compare(artifact.manifest.metric, vectors[chosen], classes[chosen])
    same = np.concatenate([np.ones(len(pairs.genuine)), np.zeros(len(pairs.impostor))])
    ratio = calibration.log_likelihood_ratio(np.concatenate([pairs.genuine, pairs.impostor]))
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in (pairs.genuine, pairs.impostor)])
    predicted, observed, ece = reliability(ratio, same, weights)
    fmr, fnmr = [], []
    for target in FMRS:
        distance = calibration.errors.distance_at_fmr(target)
        expected = calibration.errors.fnmr_at(distance)[0]
        missed = pairs.genuine > distance
        fmr.append(_plain(target, pairs.impostor <= distance))
        fnmr.append(_rate(expected, missed, _clusters(prepared, pairs.genuine_class)))
    sizes = [identify(size, artifact, vectors, prepared) for size in SIZES[name]]
    loss = log_loss(ratio, same, weights)
    return Report(name, ece, loss, predicted.tolist(), observed.tolist(), fmr, fnmr, sizes)


def identify(size: int, artifact: Artifact, vectors: np.ndarray, prepared: PreparedImages) -> Identification:
    """Measure identification among ``size`` enrolled classes."""
    calibration = artifact.manifest.calibration
    classes = prepared.classes.numpy()
    n_galleries = max(100, 2_000 // size)
    found = search_galleries(artifact.manifest.metric, vectors, classes, size=size, n_galleries=n_galleries, seed=SEED)
    knowing = calibration.threshold_at_fpir(FPIR, size)
    fixed = calibration.threshold_at_fmr(FPIR)
    return Identification(
        size=size,
        fpir=_strangers(found, calibration, knowing, prepared),
        fpir_fixed=_strangers(found, calibration, fixed, prepared),
        fnir=_known(found, calibration, knowing, prepared),
        fnir_fixed=_known(found, calibration, fixed, prepared),
        auroc=auroc(found),
        oscr=oscr(found),
    )


def _strangers(found: Searches, calibration: Calibration, threshold: float, prepared: PreparedImages) -> Rate:
    return _rate(FPIR, fpir(found, calibration, threshold), _clusters(prepared, found.stranger_class))


def _known(found: Searches, calibration: Calibration, threshold: float, prepared: PreparedImages) -> Rate:
    return _rate(float("nan"), fnir(found, calibration, threshold), _clusters(prepared, found.known_class))


def _clusters(prepared: PreparedImages, classes: Ints) -> Ints:
    """Return the alphabet of each class, or the class itself if there is only one group."""
    groups = prepared.groups.numpy()
    return groups[classes] if groups.max() > 0 else classes


def _rate(target: float, events: np.ndarray, clusters: Ints) -> Rate:
    low, high = cluster_interval(events, clusters)
    return Rate(target, float(events.mean()), low, high, len(events))


def _plain(target: float, events: np.ndarray) -> Rate:
    """Return a rate over impostor pairs, without an interval: such a pair does not belong to a single cluster."""
    return Rate(target, float(events.mean()), float("nan"), float("nan"), len(events))


def _percent(rate: Rate) -> str:
    if np.isnan(rate.low):
        return f"{100 * rate.measured:.3g} %"
    return f"{100 * rate.measured:.3g} % ({100 * rate.low:.3g} to {100 * rate.high:.3g})"


def page(artifact: Artifact, reports: list[Report]) -> str:
    """Return docs/decisions.md."""
    manifest, calibration = artifact.manifest, artifact.manifest.calibration
    machine = f"{platform.machine()}, {platform.system()}"
    lines = [
        "# Decisions, measured",
        "",
        f"Model `{manifest.model_id}`, {datetime.now(UTC):%Y-%m-%d}, {machine}, seed {SEED}. "
        "Printed by `python -m benchmarks.decisions` (`make bench-decisions`); do not edit.",
        "",
        f"The calibration was fitted on {calibration.source} ({calibration.n_classes} classes, method "
        f"`{calibration.method}`). Nothing below was used to fit it. Intervals (95 %) are bootstrapped over alphabets "
        "(Omniglot) or classes (MNIST).",
        "",
    ]
    for report in reports:
        lines += _section(report)
    lines += [
        "![Share of strangers named, against the size of the gallery](images/fpir.png)",
        "",
        "![Reliability: how often pairs of a similarity really are the same](images/reliability.png)",
        "",
    ]
    return "\n".join(lines)


def _section(report: Report) -> list[str]:
    lines = [
        f"## {report.data}",
        "",
        f"Similarity as a probability, prior 0.5: ECE {100 * report.ece:.2f} %, log-loss {report.log_loss:.4f} nats.",
        "",
        "| target FMR | measured FMR | pairs | expected FNMR | measured FNMR | pairs |",
        "|---|---|---|---|---|---|",
    ]
    for fmr, fnmr in zip(report.fmr, report.fnmr, strict=True):
        lines.append(
            f"| {100 * fmr.target:g} % | {_percent(fmr)} | {fmr.n:,} | {100 * fnmr.target:.3g} % | {_percent(fnmr)} | "
            f"{fnmr.n:,} |"
        )
    lines += [
        "",
        f"Identification, target FPIR {100 * FPIR:g} %, default threshold against a fixed one (that of FMR 1 %):",
        "",
        "| N | FPIR | FPIR, fixed threshold | FNIR | FNIR, fixed threshold | AUROC | OSCR | strangers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report.identification:
        lines.append(
            f"| {row.size} | {_percent(row.fpir)} | {_percent(row.fpir_fixed)} | {_percent(row.fnir)} | "
            f"{_percent(row.fnir_fixed)} | {row.auroc:.4f} | {row.oscr:.4f} | {row.fpir.n:,} |"
        )
    return [*lines, ""]


def plot(reports: list[Report], folder: Path) -> None:
    """Draw FPIR and FNIR against the size of the gallery, and the reliability diagram."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = reports[0].identification
    sizes = [row.size for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, ("fpir", "fnir"), strict=True):
        for label, field, style in (("knows N", name, "o-"), ("fixed threshold", f"{name}_fixed", "s--")):
            rates: list[Rate] = [getattr(row, field) for row in rows]
            errors = [[max(r.measured - r.low, 0) for r in rates], [max(r.high - r.measured, 0) for r in rates]]
            axis.errorbar(
                sizes, [100 * r.measured for r in rates], 100 * np.array(errors), fmt=style, capsize=3, label=label
            )
        axis.set(xscale="log", xlabel="classes enrolled (N)", ylabel=f"{name.upper()}, %")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0].axhline(100 * FPIR, color="grey", linewidth=1)
    axes[0].set(yscale="log", title="Strangers named as somebody (target: 1 %)")
    axes[1].set(title="Queries of enrolled classes not named rightly")
    figure.savefig(folder / "fpir.png", dpi=110)
    figure, axis = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for report in reports:
        axis.plot(report.predicted, report.observed, "o-", label=f"{report.data}, ECE {100 * report.ece:.2f} %")
    axis.set(xlabel="similarity", ylabel="share of pairs that are the same", title="Reliability, prior 0.5")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(folder / "reliability.png", dpi=110)


def main(
    data: Annotated[Path, typer.Option(envvar="ONESHOT_DATASETS", help="Folder with omniglot/ and mnist/.")],
    artifact: Annotated[Path, typer.Option(help="What to measure, in the form that is served.")] = DEFAULT_ARTIFACT,
    docs: Annotated[Path, typer.Option(help="Where to write the page, the plots and the JSON.")] = DOCS,
) -> None:
    """Measure, print, and write docs/decisions.md."""
    loaded = served_artifact(artifact)
    reports = [
        measure("Omniglot", loaded, read_omniglot(data, "evaluation")),
        measure("MNIST", loaded, read_mnist(data)),
    ]
    text = page(loaded, reports)
    print(text)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "decisions.md").write_text(text, encoding="utf-8")
    content = {"model": loaded.manifest.model_id, "seed": SEED, "reports": [asdict(report) for report in reports]}
    (docs / "decisions.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    plot(reports, docs / "images")


if __name__ == "__main__":
    typer.run(main)
