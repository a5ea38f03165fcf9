"""The cost of a set-up: time and disk of `make serve` from a fresh clone, time to ready, idle memory, image size.

    python -m benchmarks.footprint [--rev REV ...] [--starts 5] [--image] [--json RESULT.json]

Each revision is cloned from this repository and set up by the Makefile without a GPU. pip's cache is off, so the time
includes the package index. The service is then started --starts times, each with an empty data folder. --image also
builds the container, with the engine behind `docker`. Needs Linux and git.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer

ROOT = Path(__file__).parent.parent
IDLE_SECONDS = 5.0
READY_SECONDS = 180.0
TAG = "oneshot-footprint"


@dataclass(frozen=True)
class Footprint:
    """The cost of one revision; sizes in bytes, times in seconds."""

    revision: str
    setup_seconds: float
    venv_bytes: int
    artefact_bytes: int
    """The shipped models."""
    ready_seconds: tuple[float, ...]
    idle_bytes: tuple[int, ...]
    """Proportional set size of all processes, one value per start."""
    image_bytes: int | None


@contextmanager
def clone(revision: str) -> Iterator[Path]:
    """A fresh clone of this repository at a revision, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder:
        place = Path(folder) / "oneshot"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
        subprocess.run(["git", "checkout", "-q", "--detach", revision], cwd=place, check=True)
        yield place


def disk_bytes(folder: Path) -> int:
    """The disk space of a folder."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*"))


def file_bytes(folder: Path) -> int:
    """The total length of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def set_up(place: Path) -> float:
    """Install what serving needs, as `make serve` does; returns the seconds it took."""
    environment = os.environ | {"PIP_NO_CACHE_DIR": "1"}
    began = time.monotonic()
    subprocess.run(["make", ".venv/.serve", "GPU=0"], cwd=place, env=environment, check=True)
    return time.monotonic() - began


def start(place: Path) -> tuple[float, int]:
    """Start the service on an empty data folder; returns seconds to ready and idle memory in bytes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tempfile.mkdtemp(prefix="footprint-home-")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONESHOT_")}
    environment |= {"ONESHOT_HOME": home, "ONESHOT_DEVICE": "cpu"}
    command = [str(place / ".venv/bin/oneshot"), "serve", "--port", str(port)]
    began = time.monotonic()
    server = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(server, f"http://127.0.0.1:{port}/readyz", began + READY_SECONDS)
        ready = time.monotonic() - began
        time.sleep(IDLE_SECONDS)
        return ready, sum(_proportional_bytes(pid) for pid in (server.pid, *_descendants(server.pid)))
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(home)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, until: float) -> None:
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"the service ended with {server.returncode}")
        with suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        time.sleep(0.02)
    raise RuntimeError("the service did not become ready")


def _descendants(pid: int) -> list[int]:
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text("ascii").split()
    ]
    return [each for child in children for each in (child, *_descendants(child))]


def _proportional_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def build_image(place: Path) -> int:
    """Build the CPU image and remove it; returns its size in bytes."""
    subprocess.run(["docker", "build", "-q", "--network=host", "--no-cache", "--tag", TAG, str(place)], check=True)
    try:
        found = subprocess.check_output(["docker", "image", "inspect", "--format", "{{.Size}}", TAG], text=True)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", TAG], check=True, stdout=subprocess.DEVNULL)
    return int(found)


def measure(revision: str, starts: int, image: bool) -> Footprint:
    """Measure one revision."""
    with clone(revision) as place:
        commit = subprocess.check_output(["git", "rev-parse", "--short=10", "HEAD"], cwd=place, text=True).strip()
        seconds = set_up(place)
        start(place)  # the first one also writes bytecode
        ready, idle = zip(*(start(place) for _ in range(starts)), strict=True)
        return Footprint(
            revision=commit,
            setup_seconds=seconds,
            venv_bytes=disk_bytes(place / ".venv"),
            artefact_bytes=file_bytes(place / "model" / "pretrained"),
            ready_seconds=ready,
            idle_bytes=idle,
            image_bytes=build_image(place) if image else None,
        )


def table(found: list[Footprint]) -> str:
    """The figures as a Markdown table with one column per revision."""
    rows = {
        "set-up from a fresh clone": [f"{each.setup_seconds:.0f} s" for each in found],
        "`.venv`": [_megabytes(each.venv_bytes) for each in found],
        "shipped models": [f"{each.artefact_bytes / 1e6:.2f} MB" for each in found],
        "time to ready, median": [f"{statistics.median(each.ready_seconds):.1f} s" for each in found],
        "idle memory (PSS), median": [_megabytes(statistics.median(each.idle_bytes)) for each in found],
        "image": ["not built" if each.image_bytes is None else _megabytes(each.image_bytes) for each in found],
    }
    head = ["|".join(("", " ", *(f" {each.revision} " for each in found), "")), "|---" * (len(found) + 1) + "|"]
    return "\n".join([*head, *(f"| {' | '.join((name, *values))} |" for name, values in rows.items())])


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"


def main(
    rev: Annotated[list[str] | None, typer.Option(help="What to measure; default HEAD.")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts of the service.")] = 5,
    image: Annotated[bool, typer.Option("--image", help="Build the container, too.")] = False,
    result: Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")] = None,
) -> None:
    """Measure what a set-up costs."""
    found = [measure(revision, starts, image) for revision in rev or ["HEAD"]]
    machine = f"{os.cpu_count()} CPUs ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {load}; {starts} starts\n\n{table(found)}")
    if result is not None:
        result.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
