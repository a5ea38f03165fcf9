"""Galleries of 1k to 1M classes: time to classify, recall, enrolment, memory and start, over HTTP.

`python -m benchmarks.gallery --work FOLDER` embeds a million distorted characters (once: FOLDER keeps them, and a data
folder of each size, so that a later call only measures), starts `oneshot serve` on each size and measures. Results go
into docs/benchmarks-gallery.json, and the page docs/benchmarks-gallery.md is made of that. Needs `ONESHOT_DATASETS`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from app.gallery.index import GalleryIndex
from app.gallery.segment_files import Snapshots
from app.home.model_shelf import ModelShelf
from app.store import NewSupport, OnConflict, SqlStore
from benchmarks.characters import Characters, embedded, served_embedder
from benchmarks.gallery_page import write_page
from model import DEFAULT_ARTIFACT
from model.distances import Vectors
from model.embedder import Embedder
from model.images import decode_image
from oneshot_client import Client
from testing.proofs import run
from testing.torture import Server

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_BATCH = 5_000
_QUERIES = 400
_RUN = 10  # queries are runs of neighbouring characters, which are drawn together
_WARM = 20  # warm-up requests
_ENROLLED = 500  # classes of each size enrolled over HTTP


@dataclass
class Row:
    """The figures of one gallery size."""

    classes: int
    p50_ms: float
    p99_ms: float
    recall: float
    enrol_per_s: float
    megabytes: float
    raw_megabytes: float
    start_s: float
    load: float


class Bench:
    """The characters, their vectors, and one data folder per size, in one work folder."""

    def __init__(self, work: Path, data: Path, model: Path, most: int) -> None:
        self.work, self.model = work, model
        self.embedder: Embedder = served_embedder(model)
        self.characters = Characters(data, self.embedder.manifest)
        self.vectors: Vectors = embedded(work / "vectors", most, self.characters, self.embedder)

    def home(self, size: int) -> Path:
        """A data folder with `size` classes minus those enrolled over HTTP, created if missing."""
        home = self.work / f"home-{size}"
        if not (home / "made").exists():
            ModelShelf(home).put_forms(self.model)
            self._fill(home, size - _ENROLLED)
            self._settle(home)
            (home / "made").touch()
        return home

    def _fill(self, home: Path, count: int) -> None:
        store = SqlStore(home / "oneshot.db")
        digest = self.embedder.manifest.digest
        for start in range(0, count, _BATCH):
            part = self.vectors[start : min(start + _BATCH, count)]
            items = [NewSupport(f"c{start + n:07}", None, "image/png", v, digest) for n, v in enumerate(part)]
            store.enroll("default", items, OnConflict.REPLACE)
        store.close()

    def _settle(self, home: Path) -> None:
        """Build the segment, which a running service does in the background."""
        store = SqlStore(home / "oneshot.db")
        index = self._index(home, store)
        index.refresh()
        while index.settling or not index.settled:
            time.sleep(0.2)
            index.refresh()
        store.close()

    def _index(self, home: Path, store: SqlStore) -> GalleryIndex:
        return GalleryIndex(store, self.embedder.manifest, snapshots=Snapshots(home / "index", store))

    def queries(self, size: int) -> list[bytes]:
        """Images of enrolled characters with other distortions, from all over the gallery."""
        chance, count = np.random.default_rng(size), size - _ENROLLED
        starts = chance.choice(max(1, count - _RUN), _QUERIES // _RUN, replace=count < _QUERIES)
        return self.characters.pictures([int(start) + n for start in starts for n in range(_RUN)], take=1)

    def recall(self, home: Path, pictures: Sequence[bytes]) -> float:
        """Recall@1 of the index against an exhaustive search."""
        images = [decode_image(picture) for picture in pictures]
        queries = self.embedder.embed(np.stack([self.embedder.prepare(image) for image in images]))
        store = SqlStore(home / "oneshot.db")
        index = self._index(home, store)
        content = store.read_gallery(store.gallery_infos()[0][0].id)
        best, rows = np.full(len(queries), -np.inf), np.zeros(len(queries), np.int64)
        for start in range(0, len(content.vectors), _BATCH):
            near = content.vectors[start : start + _BATCH] @ queries.T
            found = near.max(axis=0)
            rows[found > best] = start + near.argmax(axis=0)[found > best]
            best = np.maximum(best, found)
        exact = [content.labels[content.owners[row]] for row in rows]
        right = [index.find("default", q, 1).matches[0].label == label for q, label in zip(queries, exact, strict=True)]
        store.close()
        return float(np.mean(right))

    def empty(self) -> int:
        """Memory in bytes of a server without classes, after the same number of requests."""
        server = Server(self.work / "home-0", self.model, 1, self.work / "server.log")
        try:
            classify(server.url, self.queries(SIZES[0]))
            return memory_of(server.process.pid)
        finally:
            server.kill()

    def measure(self, size: int, empty: int) -> Row:
        """Start a server on the data folder of this size, enrol the remaining classes, and classify."""
        home, pictures = self.home(size), self.queries(size)
        new = self.characters.pictures(range(size - _ENROLLED, size), take=0)
        began = time.perf_counter()
        server = Server(home, self.model, 1, self.work / "server.log")
        start = time.perf_counter() - began
        try:
            with Client(server.url, timeout=120) as client:
                began = time.perf_counter()
                client.enroll_batch([(f"c{size - _ENROLLED + n:07}", image) for n, image in enumerate(new)])
                rate = _ENROLLED / (time.perf_counter() - began)
            times = classify(server.url, pictures)
            memory = memory_of(server.process.pid) - empty
        finally:
            server.kill()
        p50, p99 = np.percentile(times, [50, 99])
        raw = 4e-6 * self.embedder.dim * size
        recall = self.recall(home, pictures)
        return Row(size, p50, p99, recall, rate, memory / 1e6, raw, start, os.getloadavg()[0])


def classify(url: str, pictures: Sequence[bytes]) -> list[float]:
    """Classify the images one by one over one connection; returns milliseconds per image, without the warm-up."""
    times: list[float] = []
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for picture in [*pictures[:_WARM], *pictures]:
            began = time.perf_counter()
            client.post("/classify", content=picture, headers={"Content-Type": "image/png"}).raise_for_status()
            times.append(1000 * (time.perf_counter() - began))
    return times[_WARM:]


def memory_of(process: int) -> int:
    """The proportional set size (PSS) of a process in bytes, mapped files included."""
    content = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * int(next(line for line in content.splitlines() if line.startswith("Pss:")).split()[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="gallery", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--work", type=Path, required=True, help="where vectors and data folders are kept (4 GB)")
    parser.add_argument("--model", type=Path, default=DEFAULT_ARTIFACT)
    parser.add_argument("--prepare", action="store_true", help="make vectors and data folders only, without measuring")
    options = parser.parse_args(argv)
    bench = Bench(options.work, Path(os.environ["ONESHOT_DATASETS"]), options.model, max(options.sizes))
    if options.prepare:
        for size in options.sizes:
            bench.home(size)
        return 0
    empty = bench.empty()
    rows = {str(size): asdict(bench.measure(size, empty)) | {"run": run()} for size in options.sizes}
    print(write_page(sizes=rows, model=bench.embedder.manifest.model_id))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
