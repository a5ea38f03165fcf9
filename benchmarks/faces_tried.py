"""Variants tried for the faces recipe, within the training people of each split; no test person takes part.

    python -m benchmarks.faces_tried

fits every variant on 20 of the 30 training people of each of the ten splits, measures it on the other 10, and writes
docs/reports/faces-tried.json, from which ``python -m benchmarks.recipes`` generates its table.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from benchmarks.faces import BASELINES
from model.distances import Vectors
from model.preprocess import Preprocess
from training.data.division import Division
from training.data.labelled import prepare, prepare_pixels
from training.episodes import embed_pixels
from training.loop import train
from training.people import FIGURES, SPLITS, Method, judge_method
from training.recipe import Recipe, load_recipe
from training.report.origin import machine

FILE = Path(__file__).parent.parent / "docs" / "reports" / "faces-tried.json"
RECIPE = "faces-gradients"
TRIED: dict[str, tuple[str, ...]] = {
    "the recipe": (),
    "without the total covariance": ("whitening.total=0",),
    "more of the total covariance": ("whitening.total=0.3",),
    "less shrinkage": ("whitening.shrinkage=0.05",),
    "more shrinkage": ("whitening.shrinkage=0.5",),
    "half as strong a whitening": ("whitening.strength=0.5",),
    "without the mirror image": ("network.mirror=false", "network.dim=576"),
    "the finer blur alone": ("network.blurs=[0.33]", "network.dim=144"),
    "the coarser blur alone": ("network.blurs=[1.33]", "network.dim=144"),
    "a third, coarser blur": ("network.blurs=[0.33, 1.33, 2.5]", "network.dim=432"),
    "smaller cells": ("network.cell=6", "network.dim=512"),
    "larger cells": ("network.cell=12", "network.dim=128"),
    "16 directions": ("network.directions=16", "network.dim=576"),
    "twice the size": ("preprocess.size=96", "network.cell=16", "network.blurs=[0.67, 2.67]"),
    "a third as many numbers": ("network.dim=96",),
    "trained before it is whitened, contrastive loss": ("optimizer.steps=60",),
}


def measure(name: str, data: Path, splits: int) -> dict[str, Any]:
    """Return a variant's figures: mean and standard deviation over ``splits``."""
    rates = [_one(name, data, split) for split in range(splits)]
    return {
        "variant": name,
        "changes": list(TRIED.get(name, ())),
        "splits": splits,
        "machine": machine(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "figures": [
            {"name": figure, "mean": round(mean(values), 2), "sd": round(stdev(values), 2)}
            for figure, values in zip(FIGURES, zip(*rates, strict=True), strict=True)
        ],
    }


def _one(name: str, data: Path, split: int) -> tuple[float, ...]:
    recipe = load_recipe(RECIPE, (*TRIED.get(name, ()), f"data.split={split}", "data.inner=true"))
    division = recipe.data.read(data)
    method = BASELINES[name](division.training, split) if name in BASELINES else _trained(recipe, division)
    return judge_method(method, division.held_out, seed=split)[0]


def _trained(recipe: Recipe, division: Division) -> Method:
    """Train without calibrating; calibration takes most of a fit's time and changes no distance."""
    preprocess = Preprocess(recipe.preprocess)
    training, held_out = prepare(division.training, preprocess), prepare(division.held_out, preprocess)
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, training, held_out, Path(folder), n_way=division.n_way)

    def embed(images: Sequence[Image.Image]) -> Vectors:
        return embed_pixels(run.network, run.similarity, prepare_pixels(images, preprocess))

    return Method(embed, run.similarity.metric)


def main(
    data: Annotated[Path, typer.Option(envvar="ONESHOT_DATASETS", help="Folder with att_faces/.")],
    out: Annotated[Path, typer.Option(help="The JSON file.")] = FILE,
    splits: Annotated[int, typer.Option(min=2, help="How many of the ten splits.")] = SPLITS,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure all variants."""
    torch.set_num_threads(threads)
    rows = []
    for name in (*BASELINES, *TRIED):
        rows.append(measure(name, data, splits))
        shown = ", ".join(f"{row['name']} {row['mean']} ± {row['sd']} %" for row in rows[-1]["figures"])
        print(f"{name}: {shown}", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
