"""Enrolling many images at once against one by one, over HTTP: images a second, and how many times as many.

`python -m benchmarks.bulk` starts `oneshot serve` on an empty data folder and measures; the results go onto the page
docs/benchmarks-gallery.md. Needs `ONESHOT_DATASETS`.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gallery_page import write_page
from oneshot_client import Client
from oneshot_client.bulk import run_many
from testing.proofs import run
from testing.torture import Server
from training.data.omniglot import read_files

_ONE_BY_ONE = 150

Item = tuple[str, bytes]
Way = Callable[[Client, list[Item]], None]


def one_by_one(client: Client, items: list[Item]) -> None:
    """One image per request."""
    for label, image in items:
        client.enroll(label, image)


def in_batches(batch: int, at_once: int) -> Way:
    """Batches of `batch` images, with `at_once` requests in flight."""

    def enroll(client: Client, items: list[Item]) -> None:
        parts = [items[start : start + batch] for start in range(0, len(items), batch)]
        for outcome in run_many(client.enroll_batch, parts, at_once):
            if outcome.get().failed:
                raise RuntimeError("an image was refused")

    return enroll


def zipped(batch: int) -> Way:
    """Zip files of `batch` images, one at a time."""

    def enroll(client: Client, items: list[Item]) -> None:
        for start in range(0, len(items), batch):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for label, image in items[start : start + batch]:
                    archive.writestr(f"{label}.png", image)
            if client.enroll_zip(buffer.getvalue()).failed:
                raise RuntimeError("an image was refused")

    return enroll


def rate(client: Client, way: Way, images: Sequence[bytes], numbers: itertools.count[int]) -> float:
    """Enrol the images as new classes; returns images per second."""
    items = [(f"class {next(numbers)}", image) for image in images]
    began = time.perf_counter()
    way(client, items)
    return len(items) / (time.perf_counter() - began)


def measure(images: Sequence[bytes], batch: int, rounds: int, workers: int, home: Path) -> dict[str, list[float]]:
    """The rate of each way in every round; the ways alternate, so that other load on the machine affects all alike."""
    ways: dict[str, tuple[Way, Sequence[bytes]]] = {
        "one by one": (one_by_one, images[:_ONE_BY_ONE]),
        f"batches of {batch:,}, one at a time": (in_batches(batch, 1), images),
        f"batches of {batch:,}, {2 * workers} in flight": (in_batches(batch, 2 * workers), images),
        f"zip files of {batch:,}, one at a time": (zipped(batch), images),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    numbers = itertools.count()
    server = Server(home, None, workers, home.with_name("server.log"))
    try:
        with Client(server.url, timeout=120) as client:
            for way, some in ways.values():
                rate(client, way, some[:batch], numbers)  # warm-up
            for _ in range(rounds):
                for name, (way, some) in ways.items():
                    found[name].append(rate(client, way, some, numbers))
    finally:
        server.kill()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="bulk", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of the server")
    options = parser.parse_args(argv)
    data = Path(os.environ["ONESHOT_DATASETS"])
    images = [content for _, content in itertools.islice(read_files(data, "images_evaluation"), options.images)]
    with tempfile.TemporaryDirectory(prefix="oneshot-bulk-") as folder:
        ways = measure(images, options.batch, options.rounds, options.workers, Path(folder) / "home")
    facts = {name: getattr(options, name) for name in ("batch", "rounds", "workers")} | {"images": len(images)}
    print(write_page(bulk={**facts, "ways": ways, "run": run(), "load": os.getloadavg()[0]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
