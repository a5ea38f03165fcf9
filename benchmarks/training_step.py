"""What a training step costs, and how much of it is spent on the data: drawing a batch and distorting it.

    python -m benchmarks.training_step omniglot --data datasets --steps 30

Run it on a machine with nothing else to do. It exits with 1 when the data path takes more than 15 % of a step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from model.embedder import pick_device
from model.preprocess import Preprocess
from training.batches import Batches, make_batches
from training.data.labelled import prepare
from training.loop import train_step
from training.machine import Machine
from training.recipe import load_recipe
from training.run import Run, start_run

MOST_SHARE = 0.15
_WARM_UP = 3


def measure(run: Run, batches: Batches, steps: int) -> tuple[float, float]:
    """Return the median seconds of a training step, and of drawing a batch alone."""
    whole, data = [], []
    for step in range(_WARM_UP + steps):
        began = time.perf_counter()
        batches.draw(run.generator, run.step, run.machine)
        if run.machine.device.type == "cuda":
            torch.cuda.synchronize()
        drawn = time.perf_counter()
        train_step(run, batches)
        if step >= _WARM_UP:
            data.append(drawn - began)
            whole.append(time.perf_counter() - drawn)
    return statistics.median(whole), statistics.median(data)


def main() -> int:
    """Print the cost of a step of each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("datasets"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="part.key=value")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = Machine(pick_device(options.device), options.precision)
    worst = 0.0
    for name in options.recipe:
        recipe = load_recipe(name, tuple(options.changes))
        division = recipe.data.read(options.data)
        training = prepare(division.training, Preprocess(recipe.preprocess))
        batches = make_batches(recipe, division, training, machine)
        run = start_run(recipe, batches.n_classes, machine)
        whole, data = measure(run, batches, options.steps)
        worst = max(worst, data / whole)
        print(
            f"{name}: {1000 * whole:.1f} ms a step of {batches.n_images} images, {batches.n_images / whole:.1f} "
            f"images/s, {1000 * data:.1f} ms of it for the data ({100 * data / whole:.1f} %); median of "
            f"{options.steps} steps, {options.threads} threads, {machine.device}, {machine.precision}"
        )
    return int(worst > MOST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
