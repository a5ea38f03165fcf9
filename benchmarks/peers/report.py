"""Generates docs/benchmarks.md and its plot from the measurements."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.bundles import table

OURS = "oneshot, raw bodies"
_TRIED = "benchmarks-tried.md"
_PEERS = ("bentoml", "litserve", "mosec", "ray", "torch", "fastapi", "uvicorn")


def facts(workers: int, seconds: float) -> dict[str, Any]:
    """Machine, versions and date."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    listed = subprocess.run(
        [str(Path(__file__).parents[2] / ".venv-peers/bin/python"), "-m", "pip", "freeze"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    pins = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    return {
        "cpu": f"{cpu}, {len(cpus())} cores",
        "python": platform.python_version(),
        "oneshot": version("oneshot"),
        "openvino": version("openvino"),
        "peers": {name: pins[name] for name in _PEERS if name in pins},
        "date": datetime.now(UTC).date().isoformat(),
        "busy": f"{os.getloadavg()[0]:.1f}",
        "load": f"{workers} worker processes each, looks of {seconds:g} s",
    }


def cpus() -> list[str]:
    """The CPUs listed by the system."""
    return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]


def write(record: dict[str, Any], folder: Path) -> None:
    """Write the page and the plot."""
    (folder / "benchmarks.md").write_text(page(record), "utf-8")
    plot(record, folder / "images" / "benchmarks.png")


def page(record: dict[str, Any]) -> str:
    """The page as Markdown."""
    told = record["facts"]
    peers = ", ".join(f"{name} {number}" for name, number in told["peers"].items())
    rounds = max((each["round"] for each in record["looks"]), default=0)
    lines = [
        "# Benchmarks: this service and its peers",
        "",
        "This page is made by `make bench`; edit `benchmarks/peers/report.py`, not the page. "
        f"What was tried to get there is in [{_TRIED}]({_TRIED}).",
        "",
        f"{told['cpu']}; Python {told['python']}, oneshot {told['oneshot']}, OpenVINO {told['openvino']}; {peers}; "
        f"{told['date']}. {rounds} interleaved rounds, {told['load']}, "
        f"load average {told.get('busy', 'unknown')} when the last began; "
        "wrk over loopback on the same cores, whose own "
        "share is in no figure. Medians over the rounds.",
        "",
        "All run the same weights over a gallery of 964 Omniglot characters, one image each; queries are other "
        "drawers' 105 x 105 PNGs of about 380 bytes. oneshot does everything that it does in production (durable "
        "store, metrics, log, validation, open-set decision); the peers decode, embed on one torch thread a process, "
        "compare with a matrix in memory and answer, batching where they can (32 images, 5 ms). Photographs are "
        "made-up 1.03-megapixel JPEGs: textures whose power falls as in photographs.",
    ]
    for material, title in (("queries", "Omniglot drawings"), ("photos", "Photographs of a megapixel")):
        for connections in sorted({each["connections"] for each in record["looks"] if each["material"] == material}):
            lines += [
                "",
                f"## {title}, {connections} connection{'s' * (connections > 1)}",
                "",
                *_table(record, material, connections),
            ]
    lines += table(record.get("bundles", [])) + _starts(record) + _open_loop(record) + _failed(record)
    lines += ["", "![Requests a second at 64 connections](images/benchmarks.png)", ""]
    return "\n".join(lines)


def _of(record: dict[str, Any], material: str, connections: int) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in record["looks"]:
        if (each["material"], each["connections"]) == (material, connections):
            found.setdefault(each["contestant"], []).append(each)
    return found


def _ratios(ours: Sequence[dict[str, Any]], peer: Sequence[dict[str, Any]], what: str) -> list[float]:
    of_round = {each["round"]: each[what] for each in peer}
    return [each[what] / of_round[each["round"]] for each in ours if of_round.get(each["round"])]


def _table(record: dict[str, Any], material: str, connections: int) -> list[str]:
    found = _of(record, material, connections)
    ceiling = median(each["rate"] for each in found.get("reads the body, does nothing", [{"rate": float("nan")}]))
    lines = [
        "| | requests/s (least to most) | oneshot's rate / its | p50, ms | p99, ms | CPU "
        "ms/request | memory, MB | failures | of the ceiling |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, looks in found.items():
        middle = {what: median(each[what] for each in looks) for what in ("rate", "p50", "p99", "cpu", "memory")}
        rates = [each["rate"] for each in looks]
        ratios = _ratios(found.get(OURS, []), looks, "rate")
        lines.append(
            f"| {name} | {middle['rate']:.0f} ({min(rates):.0f} to {max(rates):.0f}) | "
            f"{f'{median(ratios):.2f}' if ratios and name != OURS else ''} | {middle['p50']:.1f} "
            f"| {middle['p99']:.1f} | "
            f"{middle['cpu']:.2f} | {middle['memory']:.0f} | {sum(each['failures'] for each in looks)} | "
            f"{_number(100 * middle['rate'] / ceiling)} % |"
        )
    return lines


def _starts(record: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Start and rest",
        "",
        "Seconds from the command to the first answer (oneshot: to `/readyz`), and memory "
        "before any load, all processes "
        "together, shared pages counted in each.",
        "",
        "| | seconds | idle memory, MB |",
        "|---|---|---|",
    ]
    names = dict.fromkeys(each["contestant"] for each in record["starts"])
    for name in names:
        mine = [each for each in record["starts"] if each["contestant"] == name]
        lines.append(f"| {name} | {median(e['seconds'] for e in mine):.1f} | {median(e['idle'] for e in mine):.0f} |")
    return lines


def _open_loop(record: dict[str, Any]) -> list[str]:
    if not record["open_loop"]:
        return []
    lines = [
        "",
        "## Open loop",
        "",
        "Requests leave at their times, answered or not; latency counts from when a request was "
        "due. 1.0 is the best rate "
        "that wrk reached. The generator is a Python process on the same cores; its share of a "
        "core is in the last column.",
        "",
        "| | offered | offered/s | goodput/s | p50, ms | p99, ms | 503 | with Retry-After | 503 "
        "p50, ms | 503 p99, ms | else | memory, MB | generator |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {e['contestant']} | {e['step']:g} | {e['rate']:.0f} | {e['goodput']:.0f} | "
        f"{e['p50']:.0f} | {e['p99']:.0f} | {e['refused']} | "
        f"{e['refused_with_retry_after']} | {_number(e['refused_p50'])} | {_number(e['refused_p99'])} | {e['other']} | "
        f"{e['memory']:.0f} | {e['generator_cpu']:.2f} |"
        for e in record["open_loop"]
    ]
    return lines


def _number(value: float) -> str:
    return "" if value != value else f"{value:.0f}"  # noqa: PLR0124 - not a number


def _failed(record: dict[str, Any]) -> list[str]:
    return [
        line
        for name, why in record["failed"].items()
        for line in ("", f"{name} did not run: `{why.splitlines()[-1][:200]}`")
    ]


def plot(record: dict[str, Any], file: Path) -> None:
    """Plot requests per second at the highest number of connections."""
    import matplotlib as mpl  # noqa: PLC0415 - of the extra `train`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    most = max(each["connections"] for each in record["looks"])
    found = _of(record, "queries", most)
    names = [name for name in found if not name.startswith("reads")]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1), layout="constrained")
    axes.barh(names[::-1], [median(each["rate"] for each in found[name]) for name in names[::-1]])
    axes.set_xlabel(f"requests a second, {most} connections, Omniglot drawings")
    figure.savefig(file, dpi=110)
    plt.close(figure)
