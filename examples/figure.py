"""Draw the comparison of Koch, Zemel and Salakhutdinov (2015) anew, measured with a model of this project.

    python examples/figure.py datasets one-shot.png [ARTEFACT]

A task of 20 characters with its query and the prediction (their figure 1), accuracy by the number of classes to choose
from, and the official 20 runs beside what was published (their table 2). `datasets` has Omniglot's `all_runs` and
`images_evaluation`, unpacked or as zip files; the picture is a PNG or an SVG, as its name ends. Needs what
`pip install -e ".[train]"` brings. Takes about a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from model import DEFAULT_ARTIFACT
from model.artifact import load_artifact
from model.distances import distances
from model.embedder import Embedder
from model.preprocess import Preprocess
from training.data.labelled import PreparedImages, prepare
from training.data.omniglot import Run, read_omniglot, read_runs
from training.episodes import judge_trials, within_group_trials
from training.hausdorff import modified_hausdorff
from training.statistics import cluster_interval

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

Distances = npt.NDArray[np.float32]
Compare = Callable[[Sequence[Image.Image], Sequence[Image.Image]], Distances]

#: Koch et al. 2015, table 2: 20-way one-shot on these same runs, in per cent. Their figures, not ours.
PUBLISHED = {
    "people": 95.5,
    "Bayesian program learning": 95.2,
    "convolutional siamese net": 92.0,
    "affine model": 81.8,
    "hierarchical deep": 65.2,
    "deep Boltzmann machine": 62.0,
    "siamese net": 58.3,
    "simple stroke": 35.2,
    "nearest neighbour, pixels": 21.7,
}
WAYS = (2, 5, 10, 15, 20)
TRIALS = 4_000
SEED = 11
RUN, QUERY = 4, 12
"""The task that is drawn."""
INK, GREY, BLUE, GREEN, RED = "#1c1e24", "#9a9ca5", "#3d4fc4", "#17704a", "#b3261e"


@dataclass(frozen=True)
class Rate:
    """A share in per cent with its 95 % interval, of `n` trials."""

    value: float
    low: float
    high: float
    n: int


def rate(right: npt.NDArray[np.bool_], clusters: npt.NDArray[np.int64]) -> Rate:
    """The share of trials that are right; trials of one cluster (run or alphabet) are alike."""
    low, high = cluster_interval(right, clusters)
    return Rate(100 * float(right.mean()), 100 * low, 100 * high, len(right))


def official(runs: Sequence[Run], compare: Compare) -> Rate:
    """Accuracy on the official runs: the answer is the nearest support, and a tie is wrong."""
    right = []
    for run in runs:
        found = compare(run.queries, run.supports)
        rightly = found[np.arange(len(run.answers)), run.answers]
        right.append((found <= rightly[:, None]).sum(axis=1) == 1)
    return rate(np.concatenate(right), np.repeat(np.arange(len(runs)), [len(run.queries) for run in runs]))


def by_ways(embedder: Embedder, data: PreparedImages) -> dict[int, Rate]:
    """Accuracy by the number of classes, all of one alphabet, supports by one drawer and the query by another."""
    batches = [embedder.embed((part.float() / 255).numpy()) for part in torch.split(data.pixels, 256)]
    vectors = np.concatenate(batches)
    rates = {}
    for n_way in WAYS:
        trials = within_group_trials(data, n_way=n_way, n_trials=TRIALS, seed=SEED)
        rates[n_way] = rate(judge_trials(embedder.metric, vectors, trials), trials.groups)
    return rates


def draw_task(figure: SubFigure, run: Run, found: Distances, similarity: npt.NDArray[np.float64]) -> None:
    """The query above the characters that it may be; under each, the probability that it is the same."""
    best, answer = int(found.argmin()), run.answers[QUERY]
    right = best == answer
    figure.suptitle("Which of these 20 is it? Each was seen once.", fontsize=12, fontweight="bold", color=INK)
    above, below = figure.subfigures(2, 1, height_ratios=[1.2, 4])
    show(above.subplots(), run.queries[QUERY], INK, "")
    for place, axes in enumerate(below.subplots(4, 5).flat):
        colour = (GREEN if right else RED) if place == best else BLUE if place == answer else ""
        show(axes, run.supports[place], colour, f"{100 * similarity[place]:.3g} %")
    verdict = "right" if right else "wrong; the right one is framed in blue"
    below.supxlabel(f"Framed: the most similar one ({verdict}). Below each: similarity", fontsize=9, color=INK)


def show(axes: Axes, image: Image.Image, frame: str, caption: str) -> None:
    """One character, framed where `frame` names a colour."""
    axes.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(caption, fontsize=8, color=frame or "#5b5d66", labelpad=2, fontweight="bold" if frame else "normal")
    for side in axes.spines.values():
        side.set(color=frame or "#dedbd2", linewidth=2.5 if frame else 0.8)


def draw_ways(axes: Axes, rates: dict[int, Rate]) -> None:
    """Accuracy against the number of classes, with intervals, and what guessing would reach."""
    ways = np.array(list(rates))
    values = np.array([each.value for each in rates.values()])
    error = [values - [each.low for each in rates.values()], [each.high for each in rates.values()] - values]
    axes.errorbar(ways, values, yerr=error, color=BLUE, marker="o", capsize=3, label="this model")
    axes.plot(ways, 100 / ways, color=GREY, linestyle="--", label="guessing")
    for way, value in zip(ways, values, strict=True):
        axes.annotate(f"{value:.1f}", (way, value), (0, -15), textcoords="offset points", ha="center", fontsize=8)
    axes.set(ylim=(0, 104), xticks=ways, xlabel="characters of one alphabet to choose from", ylabel="% right")
    axes.set_title(f"All 20 evaluation alphabets, all drawers, n = {TRIALS:,} each", fontsize=10, loc="left")
    axes.legend(frameon=False, loc="center right", fontsize=9)


def draw_models(axes: Axes, measured: dict[str, Rate]) -> None:
    """What was published in grey, what was measured now in colour."""
    rows = [(name, value, None) for name, value in PUBLISHED.items()]
    rows += [(name, each.value, each) for name, each in measured.items()]  # type: ignore[misc]
    rows.sort(key=lambda row: row[1])
    for place, (_, value, each) in enumerate(rows):
        axes.barh(place, value, color=GREY if each is None else BLUE, height=0.72)
        edge = value if each is None else each.high
        if each is not None:
            axes.errorbar(value, place, xerr=[[value - each.low], [each.high - value]], color=INK, capsize=2.5)
        axes.text(edge + 1.2, place, f"{value:.1f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8.5)
    axes.set(xlim=(0, 108), xlabel="% right")
    axes.set_title("Official 20 runs, 20-way, n = 400. Grey: Koch et al. 2015. Blue: measured", fontsize=10, loc="left")


def draw(task: tuple[Run, Distances, npt.NDArray[np.float64]], ways: dict[int, Rate], bars: dict[str, Rate]) -> Figure:
    """The whole picture."""
    figure = plt.figure(figsize=(12.5, 7.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.3])
    draw_task(left, *task)
    above, below = right.subplots(2, 1, height_ratios=[1, 1.25])
    draw_ways(above, ways)
    draw_models(below, bars)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(datasets: Path, file: Path, model: Path) -> str:
    """Measure, draw, and say what was measured."""
    artifact = load_artifact(model)
    embedder, runs = Embedder(artifact), read_runs(datasets)

    def nearest(queries: Sequence[Image.Image], supports: Sequence[Image.Image]) -> Distances:
        asked, known = (
            embedder.embed(np.stack([embedder.prepare(each) for each in part])) for part in (queries, supports)
        )
        return distances(embedder.metric, asked, known)

    bars = {f"this model ({artifact.manifest.name})": official(runs, nearest)}
    bars["modified Hausdorff distance"] = official(runs, modified_hausdorff)
    run = runs[RUN]
    found = nearest([run.queries[QUERY]], run.supports)[0]
    data = prepare(read_omniglot(datasets, "evaluation"), Preprocess(artifact.manifest.preprocess))
    ways = by_ways(embedder, data)
    draw((run, found, artifact.manifest.calibration.probability(found)), ways, bars).savefig(file, dpi=130)
    rows = {**bars, **{f"{way} characters of one alphabet": each for way, each in ways.items()}}
    lines = [f"{name}: {r.value:.2f} % ({r.low:.2f} to {r.high:.2f}), n = {r.n}" for name, r in rows.items()]
    return "\n".join([f"{artifact.manifest.model_id}; intervals are 95 %", *lines])


if __name__ == "__main__":
    where, picture = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "one-shot.png")
    print(main(where, picture, Path(sys.argv[3]) if len(sys.argv) > 3 else DEFAULT_ARTIFACT))
