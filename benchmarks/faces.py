"""Faces of people not trained on: recipes and plain baselines on the same ten splits of the AT&T faces.

    python -m benchmarks.faces faces-contrastive ...      # trains each recipe ten times, into runs/faces/RECIPE/split-N
    python -m benchmarks.faces A B --join                 # also measures the ensemble of A and B

writes docs/reports/faces.json, from which ``python -m benchmarks.recipes`` generates its table. Recipes are files or
names of the project's own. A trained split is reused, and figures of recipes that are not named are kept.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from training.data.faces import read_faces
from training.data.labelled import LabelledImages
from training.history import read_history
from training.people import Fit, evaluate_people, joined, pixels, trained, whitened_pca
from training.recipe import load_recipe
from training.report.origin import machine, versions

FILE = Path(__file__).parent.parent / "docs" / "reports" / "faces.json"
BASELINES: dict[str, Fit] = {"raw pixels": pixels, "whitened PCA": whitened_pca}


def measure(name: str, images: LabelledImages, learn: Fit, command: str, runs: Path | None = None) -> dict[str, Any]:
    """Measure one method on all splits; the training time comes from the histories in ``runs``, if there are any."""
    began = time.monotonic()
    rows = evaluate_people(images, learn)
    seconds = time.monotonic() - began
    histories = [read_history(folder) for folder in runs.glob("split-*")] if runs else []
    if any(histories):
        seconds = sum(history[-1].seconds for history in histories)
    return {
        "method": name,
        "command": command,
        "minutes": round(seconds / 60, 2),
        "machine": machine(),
        "versions": versions(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "figures": [
            {
                "name": row.name,
                "mean": round(row.mean, 2),
                "sd": round(row.sd, 2),
                "interval": [round(end, 2) for end in row.interval],
                "splits": [round(value, 2) for value in row.values],
                "n": row.n,
            }
            for row in rows
        ],
    }


def command_line(method: str) -> str:
    """Return the arguments that measure ``method``, with a leading space; empty for a baseline."""
    if method in BASELINES:
        return ""
    names = method.split(" + ")
    return f" {' '.join(names)}{' --join' if len(names) > 1 else ''}"


def main(  # noqa: PLR0917 - typer reads options from the signature
    data: Annotated[Path, typer.Option(envvar="ONESHOT_DATASETS", help="Folder with att_faces/.")],
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipes of faces to train and measure.")] = None,
    runs: Annotated[Path, typer.Option(help="Where artefacts go.")] = Path("runs/faces"),
    out: Annotated[Path, typer.Option(help="The JSON file.")] = FILE,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    together: Annotated[bool, typer.Option("--join", help="Measure the recipes joined to one model, too.")] = False,
) -> None:
    """Measure the baselines and the recipes."""
    torch.set_num_threads(threads)
    images = read_faces(data)
    methods = dict(BASELINES)
    for source in recipes or []:
        recipe = load_recipe(source)
        methods[recipe.name] = trained(recipe, data, runs / recipe.name)
    if together:
        names = [name for name in methods if name not in BASELINES]
        folders = [runs / name for name in names]
        methods[" + ".join(names)] = joined(folders, data, runs / "-".join(names))
    known = {row["method"]: row for row in json.loads(out.read_text("utf-8"))} if out.exists() else {}
    for name, learn in methods.items():
        command = "python -m benchmarks.faces" + command_line(name)
        known[name] = measure(name, images, learn, command, runs / name if name not in BASELINES else None)
        shown = ", ".join(f"{row['name']} {row['mean']} ± {row['sd']} %" for row in known[name]["figures"])
        print(f"{name}: {shown}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(list(known.values()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
