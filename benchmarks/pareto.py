"""The cost of accuracy: images/s per core against one-shot accuracy on held-out classes, for several artefacts.

    python -m benchmarks.pareto model/pretrained/omniglot runs/wide runs/narrow

Accuracy is measured on the classes that the artefact's own recipe held out. Speed is that of the network on one thread
in batches of 64; the artefacts alternate, so that changes in the machine's load affect all alike. The knee is the
artefact on the Pareto front that is farthest above the line between the front's ends, with both axes scaled to it.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import torch
import typer

from model.artifact import load_artifact
from training.episodes import judge_trials
from training.report.origin import machine
from training.statistics import cluster_interval
from training.subject import Subject, open_subject

mpl.use("Agg")
from matplotlib import pyplot as plt

N_WAY, TRIALS, SEED = 20, 10_000, 1
BATCH, ROUNDS = 64, 15


@dataclass(frozen=True)
class Choice:
    """An artefact with its cost, and its accuracy on held-out classes in percent."""

    name: str
    model_id: str
    parameters: int
    megabytes: float
    size: int
    images_per_second: float
    accuracy: float
    low: float
    high: float
    held_out: str


def measure(artifacts: list[Path], datasets: Path, rounds: int = ROUNDS) -> list[Choice]:
    """Measure every artefact; the timing rounds alternate between them.

    Raises:
        ArtifactError: an artefact cannot be loaded.
        DatasetError: the data is not in ``datasets``.
    """
    torch.set_num_threads(1)
    subjects = [open_subject(load_artifact(path), datasets, "held-out", threads=1) for path in artifacts]
    speeds = _speeds(subjects, rounds)
    return [_choice(path, *pair) for path, *pair in zip(artifacts, subjects, speeds, strict=True)]  # type: ignore[arg-type]


def _speeds(subjects: list[Subject], rounds: int) -> list[float]:
    batches = []
    for subject in subjects:
        repeated = np.resize(np.arange(len(subject.data.pixels)), BATCH)
        batches.append((subject.data.pixels[repeated].float() / 255).numpy())
    rates: list[list[float]] = [[] for _ in subjects]
    for turn in range(rounds + 1):
        for subject, batch, own in zip(subjects, batches, rates, strict=True):
            began = time.perf_counter()
            subject.embedder.embed(batch)
            if turn:  # the first round is a warm-up
                own.append(BATCH / (time.perf_counter() - began))
    return [statistics.median(own) for own in rates]


def _choice(path: Path, subject: Subject, speed: float) -> Choice:
    trials = subject.trials(min(N_WAY, subject.most_way), TRIALS, SEED, within=True)
    right = judge_trials(subject.embedder.metric, subject.vectors, trials)
    low, high = cluster_interval(right, trials.groups)
    manifest = subject.manifest
    return Choice(
        name=path.resolve().name,
        model_id=manifest.model_id,
        parameters=manifest.weights.parameters,
        megabytes=manifest.weights.bytes / 1e6,
        size=manifest.preprocess.size,
        images_per_second=round(speed, 1),
        accuracy=round(100 * float(right.mean()), 2),
        low=round(100 * low, 2),
        high=round(100 * high, 2),
        held_out=subject.data_name,
    )


def front(choices: list[Choice]) -> list[Choice]:
    """Return the Pareto front of speed and accuracy, fastest first."""
    best: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (-choice.images_per_second, -choice.accuracy)):
        if not best or choice.accuracy > best[-1].accuracy:
            best.append(choice)
    return best


def knee(choices: list[Choice]) -> Choice:
    """Return the artefact of the front farthest above the line between its ends, or the most accurate of up to two."""
    line = front(choices)
    if len(line) < 3:
        return line[-1]
    cost = np.log([choice.images_per_second for choice in line])
    right = np.array([choice.accuracy for choice in line])
    across, up = (cost[0] - cost) / (cost[0] - cost[-1]), (right - right[0]) / (right[-1] - right[0])
    return line[int(np.argmax(up - across))]


def page(choices: list[Choice]) -> str:
    """Return the page with the table."""
    chosen, best = knee(choices), front(choices)
    lines = [
        "# What accuracy costs",
        "",
        f"Printed by `python -m benchmarks.pareto`, {datetime.now(UTC):%Y-%m-%d}, {machine()}, one thread, batches of "
        f"{BATCH}, median of {ROUNDS} rounds in turn; one-shot accuracy on held-out classes, {TRIALS:,} trials, seed "
        f"{SEED}. Do not edit.",
        "",
        "| artefact | model | images/s per core | right, % | 95 % interval | input | parameters | MB | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(choices, key=lambda choice: -choice.images_per_second):
        place = "knee" if row is chosen else "front" if row in best else ""
        lines.append(
            f"| {row.name} | `{row.model_id}` | {row.images_per_second:,.0f} | {row.accuracy:.2f} | "
            f"{row.low:.2f} to {row.high:.2f} | {row.size} px | {row.parameters:,} | {row.megabytes:.2f} | {place} |"
        )
    return "\n".join([*lines, "", "![Accuracy against images/s per core](images/pareto.png)", ""])


def plot(choices: list[Choice], file: Path) -> None:
    """Plot all artefacts, with the front as a line and the knee labelled."""
    best, chosen = front(choices), knee(choices)
    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    axis.step(
        [choice.images_per_second for choice in best],
        [choice.accuracy for choice in best],
        where="post",
        color="#3a86d8",
        alpha=0.5,
    )
    for choice in choices:
        colour = "#e6852d" if choice is chosen else "#3a86d8" if choice in best else "#999999"
        error = [[choice.accuracy - choice.low], [choice.high - choice.accuracy]]
        axis.errorbar(
            choice.images_per_second, choice.accuracy, error, fmt="o", color=colour, elinewidth=0.8, capsize=2
        )
        label = f"{choice.name} (knee)" if choice is chosen else choice.name
        axis.annotate(
            label,
            (choice.images_per_second, choice.accuracy),
            (5, 5),
            textcoords="offset points",
            fontsize=8,
            color=colour,
        )
    axis.set(xscale="log", xlabel="images/s per core", ylabel="one-shot accuracy on held-out classes, %")
    axis.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axis.grid(alpha=0.3, which="both")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main(
    artifacts: Annotated[list[Path], typer.Argument(help="Folders of artefacts.")],
    data: Annotated[Path, typer.Option(envvar="ONESHOT_DATASETS", help="Folder with omniglot/.")],
    out: Annotated[Path, typer.Option(help="Where pareto.md, pareto.json and the plot go.")] = Path("reports"),
) -> None:
    """Measure, print, and write."""
    choices = measure(artifacts, data)
    text = page(choices)
    print(text)
    plot(choices, out / "images" / "pareto.png")
    (out / "pareto.md").write_text(text, encoding="utf-8")
    (out / "pareto.json").write_text(json.dumps([asdict(choice) for choice in choices], indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
