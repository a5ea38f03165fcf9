"""What one `/classify` costs, step by step, and what the engines do with a batch: CPU time on one thread.

python -m benchmarks.steps [--seconds 1]        # needs ONESHOT_DATASETS
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from app.gallery.protocol import Match
from app.recognition.decision import decide, gallery_threshold
from benchmarks.peers.material import make
from model import DEFAULT_ARTIFACT
from model.artifact import INT8_FOLDER, load_artifact
from model.embedder import Embedder, EngineName
from model.images import decode_image

SIZES = (1, 8, 64)
CLASSES = 964


def milliseconds(act: Callable[[], object], seconds: float) -> float:
    """CPU milliseconds of one call."""
    act()
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds:
        act()
        calls += 1
    return 1000 * (time.process_time() - began) / calls


def engines(seconds: float) -> dict[str, list[int]]:
    """Images per CPU second of each engine, for each batch size in SIZES."""
    found = {}
    for name in [each for each in get_args(EngineName) if each not in {"auto", "torch-half"}]:
        folder = DEFAULT_ARTIFACT / INT8_FOLDER if name == "openvino-int8" else DEFAULT_ARTIFACT
        embedder = Embedder(load_artifact(folder), "cpu", 1, name)
        batches = [np.random.default_rng(0).random((size, 1, 40, 40), np.float32) for size in SIZES]
        rates = [len(batch) / milliseconds(partial(embedder.embed, batch), seconds) for batch in batches]
        found[name] = [round(1000 * rate) for rate in rates]
    return found


def steps(datasets: Path, seconds: float) -> dict[str, float]:
    """CPU milliseconds of each step."""
    embedder = Embedder(load_artifact(DEFAULT_ARTIFACT / INT8_FOLDER), "cpu", 1)
    calibration = embedder.manifest.calibration
    matches = [Match(f"c{place}", 0.1 * place + 0.01) for place in range(5)]
    at = gallery_threshold(calibration, CLASSES, fpir=None, threshold=None)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        material = make(datasets, Path(folder))
        for kind, place in (("drawing", material.queries), ("photograph", material.photos)):
            files = [path.read_bytes() for path in sorted(place.iterdir())[:32]]
            data, decoded = itertools.cycle(files), itertools.cycle([decode_image(each) for each in files])
            found[f"decode a {kind}"] = milliseconds(lambda data=data: decode_image(next(data)), seconds)  # type: ignore[misc]
            found[f"prepare a {kind}"] = milliseconds(lambda it=decoded: embedder.prepare(next(it)), seconds)  # type: ignore[misc]
    found["threshold of a gallery"] = milliseconds(
        lambda: gallery_threshold(calibration, CLASSES, fpir=None, threshold=None), seconds
    )
    found["decide on 5 candidates"] = milliseconds(lambda: decide(matches, calibration, at), seconds)
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--datasets", type=Path, default=os.environ.get("ONESHOT_DATASETS", "datasets"))
    options = parser.parse_args()
    print(f"images a CPU second in batches of {', '.join(map(str, SIZES))}")
    for name, rates in engines(options.seconds).items():
        print(f"  {name:15} {rates}")
    print("CPU milliseconds")
    for name, value in steps(options.datasets, options.seconds).items():
        print(f"  {name:25} {value:.3f}")


if __name__ == "__main__":
    main()
