"""`/embed` with many images per request, against the network alone in as many processes on the same cores.

`python -m benchmarks.peers.bundles ENGINE SECONDS` is one such process. It embeds prepared images in batches of `SIZE`
on one thread, and prints the images per second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contestants import Running
from benchmarks.peers.measure import wrk
from model import DEFAULT_ARTIFACT
from model.artifact import INT8_FOLDER, load_artifact
from model.embedder import Embedder

SIZE = 64
#: Engines of the network alone: the service's on CPUs, and the one used in training.
ENGINES = ("openvino-int8", "torch")
SERVICE = "oneshot, /embed"


@dataclass(frozen=True)
class Bundles:
    """Images per second in one round, by the service or by the network alone."""

    name: str
    round: int
    rate: float


def measure(server: Running, files: Sequence[Path], workers: int, *, seconds: float, round_: int) -> list[Bundles]:
    """Measure the service, then the network alone with each engine, for `seconds` each."""
    load = partial(wrk, server.url, files, 2 * workers, path="/embed", form=True, bundle=SIZE)
    load(seconds=1)
    found = load(seconds=seconds)
    answered = found["requests"] - found["status"]  # refused requests do not count
    rate = 1e6 * SIZE * answered / found["microseconds"]
    return [Bundles(SERVICE, round_, rate), *(Bundles(name, round_, alone(name, workers, seconds)) for name in ENGINES)]


def alone(engine: str, workers: int, seconds: float) -> float:
    """Total images per second of `workers` processes."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, engine, str(seconds)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    answers = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        raise RuntimeError(f"the network alone did not run by {engine}")
    return sum(map(float, answers))


def table(bundles: Sequence[dict[str, Any]]) -> list[str]:
    """The section of the page. Ratios are taken within a round; the table shows their median over rounds."""
    if not bundles:
        return []
    rates = {
        name: {each["round"]: each["rate"] for each in bundles if each["name"] == name} for name in _names(bundles)
    }
    ours = rates[SERVICE]
    lines = [
        "",
        f"## {SIZE} images a request",
        "",
        "`/embed` reads the form, decodes, prepares, embeds and writes the vectors as JSON. The network alone embeds "
        f"images that are prepared already, in batches of {SIZE}, in as many processes of one thread each.",
        "",
        "| | images/s | `/embed`'s share of it |",
        "|---|---|---|",
    ]
    for name, of in rates.items():
        shares = [ours[round_] / rate for round_, rate in of.items() if round_ in ours]
        told = "" if name == SERVICE else f"{100 * float(np.median(shares)):.0f} %"
        title = name if name == SERVICE else f"the network alone, {name}"
        lines.append(f"| {title} | {np.median(list(of.values())):.0f} | {told} |")
    return lines


def _names(bundles: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(each["name"] for each in bundles))


def main() -> None:
    """Run one process of the network alone."""
    engine, seconds = sys.argv[1], float(sys.argv[2])
    folder = DEFAULT_ARTIFACT / INT8_FOLDER if engine == "openvino-int8" else DEFAULT_ARTIFACT
    embedder = Embedder(load_artifact(folder), "cpu", 1, engine)  # type: ignore[arg-type]
    spec = embedder.manifest.preprocess
    batch = np.random.default_rng(0).random((SIZE, spec.channels, spec.size, spec.size), np.float32)
    embedder.embed(batch)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images += len(embedder.embed(batch))
    print(images / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
