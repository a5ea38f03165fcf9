"""Omniglot's official 20-way one-shot task, put to a running service over HTTP and nothing else.

Each of the 20 official runs enrols its 20 training images, one per class, into a gallery of its own and classifies
its 20 test images: 400 decisions. The headline figure is the closed-set one of the literature (`threshold=0`: the
service always names the best class). Beside it stands how many right answers the service's own open-set threshold
would have let through.

    make bench-omniglot                                                     # starts a fresh service itself
    python -m benchmarks.omniglot_http --base-url http://127.0.0.1:8000     # measures a running one
"""

import argparse
import contextlib
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

LABEL_LINE = re.compile(r"^(?P<test>\S+\.png)\s+(?P<training>\S+\.png)$")
START_SECONDS = 120.0


class BenchmarkError(Exception):
    """The benchmark cannot continue; the message says why in one line."""


@dataclass(frozen=True)
class Run:
    """One official run: a training image per class, and test images with their true class. All images are PNG."""

    name: str
    training: dict[str, bytes]
    test: tuple[tuple[str, bytes, str], ...]
    """(image name, bytes, true class)"""


@dataclass(frozen=True)
class Answer:
    """The service's answer for one test image."""

    item: str
    truth: str
    named: str | None
    """The closed-set answer."""
    similarity: float
    """Similarity of the best candidate, in [0, 1]."""
    accepted: str | None
    """The answer under the service's own threshold; None is "unknown"."""

    @property
    def right(self) -> bool:
        """Whether the closed-set answer is the true class."""
        return self.named == self.truth

    @property
    def right_and_accepted(self) -> bool:
        """Whether the service gives the true class under its own threshold."""
        return self.accepted == self.truth


def parse_class_labels(text: str) -> list[tuple[str, str]]:
    """Parse `class_labels.txt` into pairs (path of a test image, path of its class's training image)."""
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = LABEL_LINE.match(line.strip())
        if match is None:
            raise BenchmarkError(f"class_labels.txt, line {number}: not a pair of PNG paths: {line!r}")
        pairs.append((match["test"], match["training"]))
    return pairs


def read_runs(archive: Path) -> list[Run]:
    """Read every run of the official `all_runs.zip`, sorted by name."""
    try:
        with zipfile.ZipFile(archive) as files:
            listings = sorted(name for name in files.namelist() if re.fullmatch(r"run\d+/class_labels\.txt", name))
            if not listings:
                raise BenchmarkError(f"{archive} holds no runNN/class_labels.txt")
            return [_read_run(files, listing) for listing in listings]
    except FileNotFoundError:
        raise BenchmarkError(f"{archive} is not there; point ONESHOT_DATASETS at the data sets' folder") from None
    except (zipfile.BadZipFile, KeyError) as error:
        raise BenchmarkError(f"{archive} is damaged: {error}") from None


def _read_run(files: zipfile.ZipFile, listing: str) -> Run:
    name = listing.partition("/")[0]
    # Every training image is enrolled, even if no test image is of its class.
    enrolled = sorted(path for path in files.namelist() if re.fullmatch(rf"{name}/training/[^/]+\.png", path))
    training = {Path(path).stem: files.read(path) for path in enrolled}
    pairs = parse_class_labels(files.read(listing).decode("utf-8"))
    if missing := {truth for _, truth in pairs} - set(enrolled):
        raise BenchmarkError(f"{listing} names classes without an image: {', '.join(sorted(missing))}")
    test = tuple((Path(item).stem, files.read(item), Path(truth).stem) for item, truth in pairs)
    return Run(name=name, training=training, test=test)


def wilson_interval(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion, as fractions in [0, 1]; the default `z` gives 95 %."""
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _checked(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else None
    request = response.request
    raise BenchmarkError(f"{request.method} {request.url} answered {response.status_code}: {response.text[:300]}")


def drop_gallery(client: httpx.Client, name: str) -> None:
    """Delete the gallery if it exists."""
    response = client.delete(f"/galleries/{name}")
    if response.status_code != httpx.codes.NOT_FOUND:
        _checked(response)


def classify(client: httpx.Client, gallery: str, image: bytes, **parameters: float) -> dict[str, Any]:
    """Classify one image, sent as a raw PNG body, and return the answer."""
    response = client.post(
        "/classify",
        params={"gallery": gallery, "k": 1, **parameters},
        content=image,
        headers={"Content-Type": "image/png"},
    )
    answer: dict[str, Any] = _checked(response)
    return answer


def play(client: httpx.Client, run: Run) -> list[Answer]:
    """Enrol the run's training images into a gallery of its name, then classify each test image twice."""
    for label, image in run.training.items():
        form = {"label": label, "gallery": run.name, "on_conflict": "fail"}
        _checked(client.post("/enroll", data=form, files={"image": (f"{label}.png", image, "image/png")}))
    answers: list[Answer] = []
    for item, image, truth in run.test:
        closed = classify(client, run.name, image, threshold=0.0)
        similarity = float(closed["candidates"][0]["similarity"])
        accepted = classify(client, run.name, image)["label"]
        answers.append(Answer(item, truth, closed["label"], similarity, accepted))
    return answers


def measure(client: httpx.Client, runs: Sequence[Run], keep: bool = False) -> dict[str, list[Answer]]:
    """Play all runs; their galleries are deleted at the end, even after a failure, unless `keep`."""
    taken = {gallery["name"] for gallery in _checked(client.get("/galleries"))["galleries"]} & {
        run.name for run in runs
    }
    if taken:
        raise BenchmarkError(f"the service already has galleries of these names: {', '.join(sorted(taken))}")
    try:
        return {run.name: play(client, run) for run in runs}
    finally:
        for run in () if keep else runs:
            drop_gallery(client, run.name)


def report(results: dict[str, list[Answer]], model: dict[str, Any], seconds: float) -> dict[str, Any]:
    """All results of the benchmark, as JSON-ready values."""
    answers = [answer for run in results.values() for answer in run]
    correct = sum(answer.right for answer in answers)
    wrong = len(answers) - correct
    return {
        "benchmark": "omniglot 20-way one-shot, official runs, over HTTP",
        "total": len(answers),
        "correct": correct,
        "error": wrong / len(answers),
        "error_wilson_95": wilson_interval(wrong, len(answers)),
        "right_and_accepted": sum(answer.right_and_accepted for answer in answers),
        "wrong_and_accepted": sum(answer.accepted not in (None, answer.truth) for answer in answers),
        "per_run": {name: sum(answer.right for answer in run) for name, run in results.items()},
        "mistakes": [
            {"run": name, **asdict(answer)} for name, run in results.items() for answer in run if not answer.right
        ],
        "model": model["model"],
        "device": model["device"],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }


def render(result: dict[str, Any]) -> str:
    """The report as readable text."""
    low, high = result["error_wilson_95"]
    runs = result["per_run"]
    return "\n".join(
        [
            result["benchmark"],
            f"  correct    {result['correct']}/{result['total']}",
            f"  error      {result['error']:.2%} (95 % Wilson interval {low:.2%} to {high:.2%})",
            f"  open set   {result['right_and_accepted']} named rightly, {result['wrong_and_accepted']} wrongly "
            "under the service's own threshold; the rest unknown",
            "  per run    " + " ".join(f"{name.removeprefix('run')}:{count}" for name, count in runs.items()),
            f"  model      {result['model']} on {result['device']}",
            f"  machine    {result['machine']}",
            f"  date       {result['date']}, took {result['seconds']} s",
        ]
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(base_url: str, server: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until /readyz answers 200. Raises BenchmarkError if the server exits first or takes too long."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if server is not None and server.poll() is not None:
            raise BenchmarkError(f"oneshot serve ended with exit code {server.returncode} before it was ready")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{base_url}/readyz", timeout=5, trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise BenchmarkError(f"{base_url}/readyz did not answer 200 within {START_SECONDS:.0f} s")


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Run `oneshot serve` with the current ONESHOT_* variables and an empty home; yields its URL."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as home:
        command = [str(Path(sys.executable).parent / "oneshot"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        with (Path(home) / "server.log").open("wb") as log:
            server = subprocess.Popen([*command, "--home", home], stdout=log, stderr=subprocess.STDOUT)
        base_url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(base_url, server)
            yield base_url
        except BenchmarkError:
            sys.stderr.write((Path(home) / "server.log").read_text("utf-8", errors="replace")[-4000:])
            raise
        finally:
            server.terminate()
            server.wait(timeout=60)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="omniglot_http", description=(__doc__ or "").partition("\n\n")[0])
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--base-url", default="http://127.0.0.1:8000", help="the running service (default: %(default)s)")
    where.add_argument(
        "--start", action="store_true", help="start `oneshot serve` with an empty home, and stop it again"
    )
    parser.add_argument("--runs", type=Path, help="all_runs.zip (default: $ONESHOT_DATASETS/omniglot/all_runs.zip)")
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    parser.add_argument("--at-least", type=int, metavar="N", help="exit with 1 when fewer than N answers are right")
    parser.add_argument("--keep", action="store_true", help="leave the galleries run01 … run20 in the service")
    return parser.parse_args(argv)


def archive_from_settings() -> Path:
    """The path of the runs below ONESHOT_DATASETS, read from the environment or `.env`."""
    datasets = os.environ.get("ONESHOT_DATASETS") or dotenv_values(".env").get("ONESHOT_DATASETS")
    if not datasets:
        raise BenchmarkError("set ONESHOT_DATASETS to the folder that holds omniglot/all_runs.zip, or give --runs FILE")
    return Path(datasets) / "omniglot" / "all_runs.zip"


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark with these options and return its report."""
    runs = read_runs(options.runs or archive_from_settings())
    with (
        served() if options.start else contextlib.nullcontext(options.base_url.rstrip("/")) as base_url,
        httpx.Client(base_url=base_url, timeout=60, trust_env=False) as client,
    ):
        started = time.perf_counter()
        model = _checked(client.get("/model"))
        results = measure(client, runs, keep=options.keep)
        return report(results, model, time.perf_counter() - started)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    options = _arguments(argv)
    try:
        result = benchmark(options)
    except (BenchmarkError, httpx.HTTPError) as error:
        sys.stderr.write(f"omniglot_http: {error}\n")
        return 2
    print(render(result))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if options.at_least is not None and result["correct"] < options.at_least:
        sys.stderr.write(f"omniglot_http: {result['correct']} right, fewer than the {options.at_least} asked for\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
