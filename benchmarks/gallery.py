"""Galleries of 1k to 1M classes: time to classify, recall, memory, start; and enrolling many against one by one.

`python -m benchmarks.gallery` fills a store of each size, starts `oneshot serve` on it and measures over HTTP. Vectors:
a few thousand distorted characters are embedded by the shipped model; further ones are mixtures of two of them, since
embedding a million images takes hours on a small machine. `--report docs/benchmarks-gallery.md` writes the table.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from app.gallery import GalleryIndex
from app.models import ModelShelf
from app.snapshots import Snapshots
from app.store import NewSupport, OnConflict, SqlStore
from benchmarks.faults import Server
from model import DEFAULT_ARTIFACT
from model.artifact import load_artifact
from model.embedder import Embedder
from tests.factories import draw_character, png_bytes

Vectors = npt.NDArray[np.float32]
_BATCH = 5_000
_QUERIES = 300


@dataclass
class Row:
    """What was measured at one size."""

    classes: int
    p50_ms: float
    p99_ms: float
    recall: float
    enrol_per_s: float
    bytes_per_class: float
    raw_bytes: int
    start_s: float
    load: float


def embed(embedder: Embedder, count: int, jitter_seed: int) -> Vectors:
    """Vectors of drawn characters, each written with another tremble."""
    parts: list[Vectors] = []
    for start in range(0, count, 128):
        seeds = range(start, min(start + 128, count))
        images = [draw_character(seed, jitter=2.0, jitter_seed=jitter_seed + seed) for seed in seeds]
        parts.append(embedder.embed(np.stack([embedder.prepare(image) for image in images])))
    return np.concatenate(parts)


def mixed(real: Vectors, count: int, start: int) -> Vectors:
    """Vectors number `start` to `start + count`: the real ones first, then mixtures of two of them."""
    chance = np.random.default_rng(start)
    share = chance.uniform(0.2, 0.8, (count, 1)).astype(np.float32)
    pairs = chance.integers(0, len(real), (2, count))
    vectors = share * real[pairs[0]] + (1 - share) * real[pairs[1]]
    vectors += 0.02 * chance.normal(size=vectors.shape).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    own = real[start : start + count]
    vectors[: len(own)] = own
    found: Vectors = vectors.astype(np.float32)
    return found


def fill(home: Path, real: Vectors, digest: str, size: int) -> float:
    """Enrol up to `size` classes into the store; returns classes per second."""
    store = SqlStore(home / "oneshot.db")
    infos = store.list_galleries()
    start = present = infos[0].classes if infos else 0
    began = time.perf_counter()
    while start < size:
        vectors = mixed(real, min(_BATCH, size - start), start)
        items = [NewSupport(f"c{start + n:07}", None, "image/png", v, digest) for n, v in enumerate(vectors)]
        store.enroll("default", items, OnConflict.REPLACE)
        start += len(items)
    seconds = time.perf_counter() - began
    store.close()
    return (size - present) / seconds


def build(home: Path, embedder: Embedder) -> None:
    """Have the segment made, as a running service does in the background."""
    store = SqlStore(home / "oneshot.db")
    index = GalleryIndex(store, embedder.manifest, snapshots=Snapshots(home / "index", store))
    index.refresh()
    while index.settling or not index.settled:
        time.sleep(0.2)
        index.refresh()
    store.close()


def recall(home: Path, embedder: Embedder, queries: Vectors) -> float:
    """The share of queries of which the index names the class that looking at every vector names."""
    store = SqlStore(home / "oneshot.db")
    index = GalleryIndex(store, embedder.manifest, snapshots=Snapshots(home / "index", store))
    content = store.read_gallery(store.gallery_infos()[0][0].id)
    right = 0
    for query in queries:
        best = int(np.argmax(np.concatenate([part @ query for part in np.array_split(content.vectors, 50)])))
        right += index.search("default", query, 1)[0].label == content.labels[content.owners[best]]
    store.close()
    return right / len(queries)


def memory_of(process: int) -> int:
    """Bytes of all memory of the process and its children that nobody else has, and its share of the rest."""
    content = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * int(next(line for line in content.splitlines() if line.startswith("Pss:")).split()[1])


def serve_and_time(home: Path, images: Sequence[bytes]) -> tuple[list[float], float, int]:
    """Milliseconds of each classification over one connection, seconds until ready, and memory."""
    began = time.perf_counter()
    server = Server(home, None, 1, home.with_name("server.log"))
    start = time.perf_counter() - began
    times: list[float] = []
    try:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            for number, image in enumerate(images):
                began = time.perf_counter()
                client.post("/classify", content=image, headers={"Content-Type": "image/png"}).raise_for_status()
                if number >= 20:
                    times.append(1000 * (time.perf_counter() - began))
        memory = memory_of(server.process.pid)
    finally:
        server.kill()
    return times, start, memory


def bulk_ratio(folder: Path, images: Sequence[bytes]) -> dict[str, float]:
    """Images per second one by one, and in batches of 1000, over HTTP."""
    server = Server(folder / "bulk", None, 1, folder / "server.log")
    try:
        with httpx.Client(base_url=server.url, timeout=120, trust_env=False) as client:
            one = min(len(images), 200)
            began = time.perf_counter()
            for number, image in enumerate(images[:one]):
                data = {"label": f"one {number}"}
                client.post("/enroll", data=data, files={"image": ("x.png", image)}).raise_for_status()
            single = one / (time.perf_counter() - began)
            lines = [
                json.dumps(
                    {"label": f"many {number}", "image": base64.b64encode(images[number % len(images)]).decode()}
                )
                for number in range(4000)
            ]
            began = time.perf_counter()
            for start in range(0, len(lines), 1000):
                body, headers = "\n".join(lines[start : start + 1000]), {"Content-Type": "application/x-ndjson"}
                client.post("/enroll/batch", content=body, headers=headers).raise_for_status()
            many = len(lines) / (time.perf_counter() - began)
    finally:
        server.kill()
    return {"one_by_one": single, "batches": many, "ratio": many / single}


def measure(sizes: Sequence[int], folder: Path) -> dict[str, Any]:
    """All figures."""
    embedder = Embedder(load_artifact(DEFAULT_ARTIFACT), "cpu")
    real, home = embed(embedder, 4000, 0), folder / "home"
    home.mkdir()
    ModelShelf(home).put(DEFAULT_ARTIFACT)
    queries = embed(embedder, _QUERIES, 10_000)
    chance = random.Random(0)
    images = [png_bytes(draw_character(seed, jitter=2.0, jitter_seed=10_000 + seed)) for seed in range(_QUERIES)]
    chance.shuffle(images)
    empty = 0
    rows: list[Row] = []
    for size in sizes:
        rate = fill(home, real, embedder.manifest.digest, size)
        build(home, embedder)
        found = recall(home, embedder, queries)
        times, start, memory = serve_and_time(home, images)
        if not rows:
            empty = memory - size * 4 * embedder.dim
        raw = 4 * embedder.dim
        p50, p99 = np.percentile(times, [50, 99])
        load = os.getloadavg()[0]
        rows.append(Row(size, p50, p99, found, rate, (memory - empty) / size, raw, start, load))
        print(asdict(rows[-1]), flush=True)
    bulk = bulk_ratio(folder, images)
    print(bulk, flush=True)
    return {"rows": [asdict(row) for row in rows], "bulk": bulk, "model": embedder.manifest.model_id}


def render(result: dict[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        "# Gallery benchmark",
        "",
        f"`python -m benchmarks.gallery --report docs/benchmarks-gallery.md`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{result['model']}, {os.cpu_count()} CPUs, {platform.machine()}. Other work ran at the time (the "
        "load average stands beside), so times are upper bounds. The vectors of 4,000 distorted characters are real "
        "embeddings; the others are mixtures of two of them with a little noise. Queries are characters written anew, "
        "over one connection. Enrolment is the store's rate, without the network. Memory is the process's proportional "
        "share (PSS), less that of a process with an empty gallery; a segment's pages are mapped and shared.",
        "",
        "| classes | classify p50 | p99 | recall@1 | enrol/s | bytes/class (raw vector) | start | load |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['classes']:,} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | {row['recall']:.3f} | "
        f"{row['enrol_per_s']:,.0f} | {row['bytes_per_class']:,.0f} ({row['raw_bytes']:,}) | {row['start_s']:.1f} s | "
        f"{row['load']:.1f} |"
        for row in result["rows"]
    ]
    bulk = result["bulk"]
    lines += [
        "",
        f"Enrolling over HTTP: {bulk['one_by_one']:,.0f} images/s one by one, {bulk['batches']:,.0f} images/s in "
        f"batches of 1,000: {bulk['ratio']:.1f} times.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="gallery", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--report", type=Path, help="write the report to this file")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="oneshot-gallery-"))
    try:
        text = render(measure(sorted(options.sizes), folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(text)
    if options.report:
        options.report.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
