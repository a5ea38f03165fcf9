"""Which views of an image are worth their cost? Compared on the background alphabets that a model was never trained on.

    python -m benchmarks.views            # writes docs/views.md

Every set holds the image itself beside the views that it names; embeddings are averaged as the service does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch.nn import functional as F  # noqa: N812 - the field's own name for it

from model import DEFAULT_ARTIFACT
from model.artifact import load_artifact
from model.distances import Vectors
from model.preprocess import Preprocess
from model.views import VIEWS, pool_views
from training.data.labelled import prepare_pixels
from training.episodes import judge_trials
from training.evaluate import embed
from training.report.origin import machine
from training.statistics import cluster_interval
from training.subject import Subject, embed_views, open_subject

DOCS = Path(__file__).parent.parent / "docs"
N_WAY, TRIALS, SEED = 20, 10_000, 1

Row = tuple[str, int, float, float, float]
"""Name, number of views, and the percentage right with the ends of its interval."""


@dataclass(frozen=True)
class Change:
    """An affine change: degrees, factors along x and y, shear, and a shift in shares of the side."""

    turn: float = 0
    width: float = 1
    height: float = 1
    shear: float = 0
    x: float = 0
    y: float = 0


def _diagonal(by: float) -> tuple[Change, ...]:
    return tuple(Change(x=by * x, y=by * y) for x in (-1, 1) for y in (-1, 1))


TURNS = tuple(Change(turn=degrees) for degrees in (-8, 8))
SETS: dict[str, tuple[Change, ...]] = {
    "turned by ±8°": TURNS,
    "turned by ±8° and ±16°": (*TURNS, Change(turn=-16), Change(turn=16)),
    "sheared by ±0.15": (Change(shear=-0.15), Change(shear=0.15)),
    "smaller and larger by 15 %": (Change(width=0.85, height=0.85), Change(width=1.15, height=1.15)),
    "turned and narrower or lower by 15 %": (*TURNS, Change(width=0.85), Change(height=0.85)),
    "shifted diagonally by 2 %": _diagonal(0.02),
    "shifted diagonally by 4 %": _diagonal(0.04),
    "shifted diagonally by 8 %": _diagonal(0.08),
    "turned by ±8°, and shifted by 4 %": (*TURNS, *_diagonal(0.04)),
}


def changed(pixels: torch.Tensor, change: Change) -> torch.Tensor:
    """Return byte images (n, channels, side, side) after the change; what comes in from outside repeats the edge."""
    angle = math.radians(change.turn)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    map_ = turn @ np.array([[1, change.shear], [0, 1]]) @ np.diag([1 / change.width, 1 / change.height])
    matrix = torch.tensor(np.column_stack([map_, [-2 * change.x, -2 * change.y]]), dtype=torch.float32)
    images = pixels.float() / 255
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return (moved * 255).round().to(torch.uint8)


def compare(subject: Subject, n_trials: int = TRIALS) -> list[Row]:
    """Return name, number of views, and the percentage right with its interval, of each set and of the service's."""
    trials = subject.trials(min(N_WAY, subject.most_way), n_trials, SEED, within=True)
    metric = subject.embedder.metric
    known: dict[Change, Vectors] = {Change(): subject.vectors}

    def vectors(change: Change) -> Vectors:
        if change not in known:
            known[change] = embed(subject.embedder, changed(subject.data.pixels, change))
        return known[change]

    def row(name: str, parts: list[Vectors]) -> Row:
        stacked = np.ascontiguousarray(np.stack(parts, 1)).reshape(-1, parts[0].shape[1])
        right = judge_trials(metric, pool_views(stacked, len(parts), metric), trials)
        low, high = cluster_interval(right, trials.groups)
        return name, len(parts), 100 * float(right.mean()), 100 * low, 100 * high

    rows = [row("the image alone", [subject.vectors])]
    rows += [row(name, [subject.vectors, *(vectors(change) for change in changes)]) for name, changes in SETS.items()]
    rows.append(row("turned by ±8° before the crop", [subject.vectors, *(_turned(subject, way) for way in (-8, 8))]))
    ours = embed_views(subject.embedder, subject.data.pixels, VIEWS[1:])
    for count in VIEWS[1:]:
        _, _, value, low, high = row("", [ours[count]])
        rows.append((f"model/views.py, {count} views", count, value, low, high))
    return rows


def _turned(subject: Subject, degrees: float) -> Vectors:
    def turn(image: Image.Image) -> Image.Image:
        return image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")

    pixels = prepare_pixels([turn(image) for image in subject.images.images], Preprocess(subject.manifest.preprocess))
    return embed(subject.embedder, pixels)


def page(subject: Subject, rows: list[Row]) -> str:
    """Return docs/views.md."""
    lines = [
        "# Several views of an image",
        "",
        f"Generated by `python -m benchmarks.views`, {datetime.now(UTC):%Y-%m-%d}, `{subject.manifest.model_id}`,",
        f"{machine()}; {TRIALS:,} within-alphabet {N_WAY}-way one-shot trials, seed {SEED}, on {subject.data_name}.",
        "Do not edit.",
        "",
        "An image may be embedded several times, each time changed a little; the mean embedding is then compared. It",
        "costs as many forward passes. All sets hold the image itself. They share their trials, so that differences",
        "mean more than the intervals (95 %, bootstrapped over alphabets) of each figure suggest.",
        "",
        "| beside the image itself | views | right, % | 95 % interval |",
        "|---|---|---|---|",
        *(f"| {name} | {count} | {value:.2f} | {low:.2f} to {high:.2f} |" for name, count, value, low, high in rows),
    ]
    return "\n".join([*lines, ""])


def main(
    data: Annotated[Path, typer.Option(envvar="ONESHOT_DATASETS", help="Folder with omniglot/.")],
    artifact: Annotated[Path, typer.Option(help="The artefact to measure.")] = DEFAULT_ARTIFACT,
    out: Annotated[Path, typer.Option(help="The page.")] = DOCS / "views.md",
) -> None:
    """Measure, print, and write docs/views.md."""
    torch.set_num_threads(1)
    subject = open_subject(load_artifact(artifact), data, "held-out", threads=1)
    text = page(subject, compare(subject))
    print(text)
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
