"""What large galleries and rates would need, from what one node was measured to do; writes docs/scale.md.

python -m benchmarks.scale                       from docs/benchmarks.json, benchmarks-gallery.json and scale.json
python -m benchmarks.scale --price 0.35 --cores 8 --gigabytes 32
python -m benchmarks.scale --measure             first takes the times of 10,000 requests (ONESHOT_DATASETS)
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.faults import Server
from benchmarks.gallery import classify
from benchmarks.peers.contestants import enrol
from benchmarks.peers.material import make
from benchmarks.peers.report import OURS
from benchmarks.proofs import run
from benchmarks.scale_model import Choice, Node, breaks, need
from benchmarks.scale_page import as_rows, page, plot, tail

_DOCS = Path(__file__).parent.parent / "docs"
_RECORDS = ("benchmarks", "benchmarks-gallery")
_CLASSES = (10**6, 10**7, 10**8, 10**9)
_RATES = (10**2, 10**3, 10**4, 10**5)
#: Of times, with the tail in detail.
_LEVELS = [*np.linspace(0, 0.99, 100).tolist(), *(1 - np.geomspace(0.01, 1e-4, 41)[1:]).tolist(), 1.0]


def read_node(peers: Mapping[str, Any], gallery: Mapping[str, Any], measured: Mapping[str, Any]) -> Node:
    """What one node was measured to do, from the records of the benchmarks."""
    looks = [each for each in peers["looks"] if (each["contestant"], each["material"]) == (OURS, "queries")]
    most = max(each["connections"] for each in looks)
    sizes = sorted(gallery["sizes"].values(), key=lambda each: int(each["classes"]))
    base = min(sizes, key=lambda each: float(each["p50_ms"]))
    larger = [each for each in sizes if each["classes"] > base["classes"]]
    bulk = next(rates for way, rates in gallery["bulk"]["ways"].items() if way.endswith("one at a time"))
    return Node(
        network_ms=median(each["cpu"] for each in looks if each["connections"] == most),
        base_ms=base["p50_ms"],
        search_ms=tuple((each["classes"], each["p50_ms"] - base["p50_ms"]) for each in larger),
        bytes_per_class=1e6 * sizes[-1]["megabytes"] / sizes[-1]["classes"],
        fill_per_s=median(bulk),
        levels=measured["levels"],
        shape=[each / measured["median_ms"] for each in measured["quantiles_ms"]],
    )


def measure(datasets: Path, requests: int) -> dict[str, Any]:
    """The times of so many classifications, one after the other over one connection, as quantiles in ms."""
    with tempfile.TemporaryDirectory(prefix="oneshot-scale-") as name:
        folder = Path(name)
        material = make(datasets, folder)
        pictures = [path.read_bytes() for path in sorted(material.queries.iterdir())]
        server = Server(folder / "home", None, 1, folder / "server.log")
        try:
            enrol(server.url, folder)
            times = classify(server.url, [pictures[number % len(pictures)] for number in range(requests)])
        finally:
            server.kill()
    return {
        "requests": len(times),
        "median_ms": median(times),
        "levels": _LEVELS,
        "quantiles_ms": np.quantile(times, _LEVELS).tolist(),
        "load": os.getloadavg()[0],
        "run": run(),
    }


def calculate(node: Node, choice: Choice, measured: Mapping[str, Any], requests: int) -> dict[str, Any]:
    """All that the page says."""
    largest = node.search_ms[-1][0]
    room = int(choice.gigabytes * choice.memory_used * 1e9 / node.bytes_per_class)
    ways = {
        f"Shards as large as was measured ({largest:,} classes)": largest,
        f"Shards as large as a machine's memory ({room:,} classes; times beyond {largest:,} are extrapolated)": room,
    }
    needs = {
        title: as_rows(
            [need(node, choice, classes, rate, size, requests=requests) for classes in _CLASSES for rate in _RATES]
        )
        for title, size in ways.items()
    }
    found = {"choice": asdict(choice), "requests": requests, "measured": measured, "needs": needs}
    return found | {"breaks": breaks(node, choice), "tail": tail(node, choice, requests)}


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="take the times of one node's requests anew")
    parser.add_argument("--requests", type=int, default=10_000, help="to measure")
    parser.add_argument("--simulated", type=int, default=20_000, help="requests of each simulation")
    parser.add_argument("--datasets", type=Path, default=os.environ.get("ONESHOT_DATASETS", "datasets"))
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where the records are, and the page goes")
    for each in fields(Choice):
        name = "price" if each.name == "price_per_hour" else each.name.replace("_", "-")
        parser.add_argument(f"--{name}", dest=each.name, type=type(each.default), default=each.default)
    options = parser.parse_args(argv)
    choice = Choice(**{each.name: getattr(options, each.name) for each in fields(Choice)})
    record = options.docs / "scale.json"
    if options.measure:
        measured = measure(options.datasets, options.requests)
    else:
        measured = json.loads(record.read_text("utf-8"))["measured"]
    peers, gallery = (json.loads((options.docs / f"{name}.json").read_text("utf-8")) for name in _RECORDS)
    node = read_node(peers, gallery, measured)
    found = calculate(node, choice, measured, options.simulated)
    record.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (options.docs / "scale.md").write_text(page(node, choice, found), "utf-8")
    plot(found["tail"], options.docs / "images" / "scale.png")


if __name__ == "__main__":
    main()
