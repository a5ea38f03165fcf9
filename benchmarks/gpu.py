"""What a GPU does for serving and training: copies, forward passes in several forms, training steps, a whole training.

    python -m benchmarks.gpu --copies --forward --seconds 90 --out reports
    python -m benchmarks.gpu --steps omniglot symbols omniglot-koch --train symbols --seconds 300 --data datasets
    python -m benchmarks.gpu --out docs                 only writes gpu.md again, from gpu.json

It needs torch, numpy, Pillow, safetensors and pydantic, and no installation of oneshot: run it from a clone. Without
the service's own packages the batcher is left out, and the page says so. Figures go to gpu.json and gpu.md as they
come; a part that isn't asked for keeps the figures of its last run. On a CPU it measures what a CPU can. A training
takes the rest of the time: its last checkpoint is in OUT/NAME, and the line that it prints makes an artefact of it on a
machine with all packages.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_forward import LARGE_COPY, Row, copies, forward
from benchmarks.gpu_page import page
from benchmarks.gpu_training import step_costs, train_within
from model import DEFAULT_ARTIFACT
from model.artifact import read_manifest
from model.embedder import pick_device
from model.manifest import PreprocessSpec
from training.loop import Progress
from training.machine import Machine

RECORD, PAGE = "gpu.json", "gpu.md"
BATCHES = (1, 8, 64, 256)
_STEPS = 30


def origin(device: torch.device) -> dict[str, Any]:
    """Device, versions and date of a measurement."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU ({platform.machine()})",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "threads": torch.get_num_threads(),
    }


def read(folder: Path) -> dict[str, Any]:
    """The figures recorded in ``folder``."""
    file = folder / RECORD
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write the figures and their page into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (folder / PAGE).write_text(page(record), "utf-8")


def record_rows(folder: Path, name: str, facts: dict[str, Any], rows: Iterator[Row]) -> None:
    """Record the rows under ``name``, with the facts. Written after each row, so that an aborted run keeps its rows."""
    record = read(folder)
    record[name] = facts | {"rows": []}
    for row in rows:
        print(json.dumps(row), flush=True)
        record[name]["rows"].append(row)
        write(folder, record)


def copy_sizes(spec: PreprocessSpec, batches: Sequence[int], large: int) -> list[int]:
    """Bytes of the network's input for each batch size, and one large size for the bandwidth."""
    return [*(4 * batch * spec.channels * spec.size**2 for batch in batches), large]


def _tell(progress: Progress) -> None:
    if progress.error is not None or progress.step % 100 == 0:
        error = "" if progress.error is None else f", {100 * progress.error:.2f} % of held-out trials wrong"
        print(f"step {progress.step} of {progress.steps}: loss {progress.loss:.4f}{error}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", action="store_true", help="measure copies to and from the device")
    parser.add_argument("--forward", action="store_true", help="measure forward passes")
    parser.add_argument("--steps", nargs="*", default=[], metavar="RECIPE", help="measure a training step of each")
    parser.add_argument("--train", metavar="RECIPE", help="train it for the rest of the time")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="part.key=value, for --train")
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="folder of the data to train on")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16", help="of training")
    parser.add_argument("--seconds", type=float, default=90, help="for all that is measured, about")
    parser.add_argument("--model", type=Path, default=DEFAULT_ARTIFACT, help="folder of an artefact")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--large", type=int, default=LARGE_COPY, help="bytes of the largest copy")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="where gpu.json and gpu.md go")
    options = parser.parse_args(argv)
    device = pick_device(options.device)
    manifest, began = read_manifest(options.model), time.perf_counter()
    if options.copies:
        seconds = options.seconds / 10 if options.forward else options.seconds
        sizes = copy_sizes(manifest.preprocess, options.batches, options.large)
        record_rows(options.out, "copies", {"run": origin(device)}, copies(device, sizes, seconds))
    if options.forward:
        seconds = options.seconds - (time.perf_counter() - began)
        facts = {"run": origin(device), "model": manifest.model_id}
        record_rows(options.out, "forward", facts, forward(options.model, device, options.batches, seconds))
    machine = Machine(device, options.precision)
    if options.steps:
        rows = step_costs(options.steps, options.data, machine, _STEPS)
        record_rows(options.out, "steps", {"run": origin(device)}, rows)
    if options.train:
        left = options.seconds - (time.perf_counter() - began)
        changes, folder = tuple(options.changes), options.out / Path(options.train).stem
        row = train_within(
            options.train, changes, options.data, machine=machine, seconds=left, folder=folder, listen=_tell
        )
        record_rows(options.out, "training", {"run": origin(device)}, iter([row]))
        settings = " ".join(f"--set {each}" for each in row["settings"])
        print(f"oneshot-train fit {options.train} {settings} --precision {options.precision} --out {folder}")
    write(options.out, read(options.out))


if __name__ == "__main__":
    main()
