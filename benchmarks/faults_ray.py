"""Two Ray nodes on one machine, and one of them killed under load: what fails, for how long, and what is lost.

`python -m benchmarks.faults_ray` makes a network namespace with loopback alone, starts PostgreSQL and two raylets in
it, and on them the application (`oneshot serve --engine ray`, the galleries in two parts, HTTP in two processes). While
clients enrol, replace and delete, and others classify, it kills the second raylet, and starts another. Then it stops
the database for a while, and in the end compares what was acknowledged with what is there. Exit code 1 when anything is
lost or does not come back.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import httpx

from testing.proofs import Proof, record
from testing.torture import Report, Worker, at_work, compare, compare_all

_READY_SECONDS = 180.0
_BACK_SECONDS = 120.0
_IN_A_ROW = 10
#: Statuses that Ray's proxy returns when the process behind it has died; the outcome of a write is then unknown.
_IN_DOUBT = frozenset({500, 502, 504})


@dataclass
class Reads:
    """Classifications from one thread: number answered, failures by kind, and the longest time without an answer."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    longest_gap: float = 0.0

    def run(self, url: str, image: bytes, label: str, stop: threading.Event) -> None:
        """Classify the image until `stop` is set; the first candidate must be `label`."""
        last = time.monotonic()
        while not stop.is_set():
            try:  # a new connection each time, like a load balancer's check
                answer = httpx.post(f"{url}/classify", files={"image": ("x.png", image)}, timeout=60, trust_env=False)
            except httpx.TransportError as error:
                self.failed[type(error).__name__] += 1
                continue
            if not answer.is_success:
                self.failed[str(answer.status_code)] += 1
                continue
            now = time.monotonic()
            self.longest_gap, last = max(self.longest_gap, now - last), now
            self.answered += 1
            if answer.json()["candidates"][0]["label"] != label:
                self.wrong.append(answer.text)


@dataclass
class Outcome:
    """The result of a run."""

    before: dict[str, list[str]]  # deployments on each node
    after: dict[str, list[str]]
    acknowledged: int
    in_doubt: int
    errors_5xx: int
    classified: int
    failed: dict[str, int]
    longest_gap_s: float
    back_after_s: float
    without_database: int  # classifications answered with an Age header while it was down
    compared: int
    lost: list[str]
    seconds: float


class Service:
    """`oneshot serve --engine ray` in the cluster of the environment."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        command = [str(Path(sys.executable).parent / "oneshot"), "serve", "--engine", "ray", "--port", str(port)]
        self.url, self._log = f"http://127.0.0.1:{port}", log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)

    def wait(self, seconds: float) -> None:
        """Wait until the service is ready."""
        give_up = time.monotonic() + seconds
        while not answers(lambda: httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False)):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("the application did not start:\n" + self._log.read_text("utf-8"))
            time.sleep(0.2)

    def stop(self) -> int:
        """Stop it with SIGTERM, as a supervisor does, and return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()


def answers(call: Callable[[], httpx.Response]) -> bool:
    """Whether the request is answered with a success status."""
    with suppress(httpx.TransportError):
        return call().is_success
    return False


def _work(worker: Worker, url: str, report: Report, stop: threading.Event) -> None:
    """Send writes until `stop` is set. After a cut-off one, check its outcome once the service answers again."""
    while not stop.is_set():
        worker.run(url, stop)
        while not stop.wait(0.2):
            try:
                compare(url, worker, report, searches=0)
                break
            except (httpx.TransportError, httpx.HTTPStatusError):
                continue


def torture(folder: Path, images: Sequence[bytes], model: Path, settle: float) -> Outcome:
    """Run the whole scenario, with `settle` seconds of load before and after the kill."""
    from testing.postgres import Postgres  # noqa: PLC0415 - extras
    from testing.ray_nodes import Nodes, free_port  # noqa: PLC0415

    began, report = time.monotonic(), Report()
    workers = [Worker(number, number, images, in_doubt=_IN_DOUBT) for number in range(2)]
    reads = [Reads() for _ in range(2)]
    with ExitStack() as stack:
        database = stack.enter_context(Postgres())
        nodes = stack.enter_context(Nodes(folder / "ray"))
        second = nodes.add()
        settings = {"STORE": database.new_store(), "HOME": str(folder / "home"), "MODEL": str(model)}
        settings |= {"SHARDS": "2", "WORKERS": "2", "EMBEDDERS": "2", "THREADS": "1", "LOG_LEVEL": "warning"}
        environment = nodes.environment | {f"ONESHOT_{name}": value for name, value in settings.items()}
        service = Service(environment, free_port(), folder / "service.log")
        stack.callback(service.stop)
        service.wait(_READY_SECONDS)
        image = images[0] + b"stays"
        enrolled = {"data": {"label": "stays"}, "files": {"image": ("x.png", image)}}
        httpx.post(f"{service.url}/enroll", timeout=60, trust_env=False, **enrolled).raise_for_status()  # type: ignore[arg-type]
        before = {"first": nodes.replicas(0), "second": nodes.replicas(second)}
        writing = [partial(_work, each, service.url, report) for each in workers]
        with at_work([*writing, *(partial(each.run, service.url, image, "stays") for each in reads)]):
            time.sleep(settle)
            nodes.kill(second)
            back = _back(service.url, image)
            third = nodes.add()
            time.sleep(settle)
            after = {"first": nodes.replicas(0), "third": nodes.replicas(third)}
        database.stop()
        without = _classify_without(service.url, image)
        database.start()
        service.wait(_BACK_SECONDS)
        httpx.delete(f"{service.url}/classes/stays", timeout=60, trust_env=False).raise_for_status()
        compare_all(service.url, workers, report)
    report.add(workers, began)
    return Outcome(
        before=before,
        after=after,
        acknowledged=report.acknowledged,
        in_doubt=report.unanswered,
        errors_5xx=report.errors_5xx,
        classified=sum(each.answered for each in reads),
        failed=dict(sum((each.failed for each in reads), Counter())),
        longest_gap_s=round(max(each.longest_gap for each in reads), 1),
        back_after_s=round(back, 1),
        without_database=without,
        compared=report.compared,
        lost=report.lost + [line for each in reads for line in each.wrong],
        seconds=round(report.seconds),
    )


def _back(url: str, image: bytes) -> float:
    """Seconds until `_IN_A_ROW` consecutive classifications are answered."""
    began, row, files = time.monotonic(), 0, {"image": ("x.png", image)}
    while row < _IN_A_ROW:
        row = row + 1 if answers(lambda: httpx.post(f"{url}/classify", files=files, timeout=60, trust_env=False)) else 0
        if time.monotonic() - began > _BACK_SECONDS:
            raise RuntimeError("it does not come back")
    return time.monotonic() - began


def _classify_without(url: str, image: bytes) -> int:
    """Classify while the database is down: every request must succeed, and the answers must soon have an Age header."""
    answered, give_up = 0, time.monotonic() + _BACK_SECONDS
    while answered < _IN_A_ROW:
        answer = httpx.post(f"{url}/classify", files={"image": ("x.png", image)}, timeout=60, trust_env=False)
        answered += bool(answer.raise_for_status().headers.get("Age"))
        if time.monotonic() > give_up:
            raise RuntimeError("answers do not say how old they are")
    return answered


def proof(outcome: Outcome) -> Proof:
    """The entry for the page of proofs."""
    return Proof(
        what="one of two Ray nodes killed under load, and the database stopped; every class compared in the end",
        command=".venv-ray/bin/python -m benchmarks.faults_ray",
        tried={
            "operations acknowledged": outcome.acknowledged,
            "classifications": outcome.classified,
            "classifications while the database was away": outcome.without_database,
            "classes compared": outcome.compared,
        },
        faults={
            "nodes killed": 1,
            "database stopped": 1,
            "operations cut off": outcome.in_doubt,
            "classifications failed": sum(outcome.failed.values()),
        },
        lost=len(outcome.lost),
        errors_5xx=outcome.errors_5xx,
        ended=f"all there again after {outcome.back_after_s} s; longest wait for an answer {outcome.longest_gap_s} s",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="faults_ray", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--settle", type=float, default=10.0, help="seconds of load before the kill, and after")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    from testing.postgres import missing as missing_postgres  # noqa: PLC0415
    from testing.ray_alone import missing, run_alone  # noqa: PLC0415

    if why := missing() or missing_postgres():
        parser.error(why)
    if not options.inside:
        done = run_alone("benchmarks.faults_ray", ["--settle", str(options.settle), "--inside"], 900)
        sys.stderr.write(done.stderr)
        print(done.stdout, end="")
        if done.returncode == 0:
            record("faults-ray", proof(Outcome(**json.loads(done.stdout))))
        return done.returncode
    from testing.factories import draw_character, make_artifact, png_bytes  # noqa: PLC0415

    # a short path, because Ray's sockets are in it
    with tempfile.TemporaryDirectory(prefix="or-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        (Path(folder) / "ray").mkdir()
        images = [png_bytes(draw_character(seed)) for seed in range(10)]
        outcome = torture(Path(folder), images, make_artifact(Path(folder) / "model"), options.settle)
    print(json.dumps(asdict(outcome), indent=1))
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
