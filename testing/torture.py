"""Clients that record what a server acknowledged, and the comparison with its state after it was killed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from testing.proofs import Proof

_LABELS_EACH = 12
_START_SECONDS = 120.0
#: The database connection broke during a commit; treated like a missing answer.
_IN_DOUBT = frozenset({504})
#: The images of a class, oldest first; empty if the class does not exist.
Shots = tuple[bytes, ...]


@dataclass
class Report:
    """The counts and findings of a run."""

    kills: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    compared: int = 0
    searched: int = 0
    errors_5xx: int = 0  # statuses from 500 on, except 503
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)  # of a cluster, by kind
    classified: int = 0  # while the database was away

    def goes_on(self, kills: int | None, seconds: float | None, began: float) -> bool:
        """Whether both limits, kills and seconds since `began`, are still unreached; None: no limit."""
        return (kills is None or self.kills < kills) and (seconds is None or time.monotonic() - began < seconds)

    def add(self, workers: Sequence[Worker], began: float) -> None:
        """Sum the workers' counters, and set the seconds since `began` (monotonic clock)."""
        self.acknowledged = sum(worker.acknowledged for worker in workers)
        self.unanswered = sum(worker.unanswered for worker in workers)
        self.errors_5xx = sum(worker.errors_5xx for worker in workers)
        self.seconds = time.monotonic() - began

    def render(self) -> str:
        """A readable summary."""
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        lines = [
            f"kills survived           {self.kills}",
            f"operations acknowledged  {self.acknowledged}",
            f"operations cut off       {self.unanswered} (each then found whole or not at all)",
            f"classes compared         {self.compared}",
            f"classes searched for     {self.searched}",
            f"lost or wrong            {len(self.lost)}",
            f"answers from 500 on      {self.errors_5xx} (503 aside)",
            *(f"{kind:<24} {count}" for kind, count in self.faults.items()),
            *([f"classified meanwhile     {self.classified} (the database was away)"] if self.faults else []),
            f"seconds                  {self.seconds:.0f} (load average {load})",
        ]
        return "\n".join([*lines, *self.lost[:20]])

    def proof(self, store: str = "sqlite") -> Proof:
        """The entry for the page of proofs."""
        tried = {"operations acknowledged": self.acknowledged, "classes compared": self.compared}
        if self.faults:
            tried["classifications while the database was away"] = self.classified
        return Proof(
            what="kills at random moments under enrol, replace, add and delete; every class compared after each"
            + ("; two servers on one PostgreSQL database, which is killed, too" if store == "postgres" else ""),
            command=f"python -m benchmarks.faults --store {store} --kills {self.kills}",
            tried=tried,
            faults={**(self.faults or {"SIGKILL": self.kills}), "operations cut off": self.unanswered},
            lost=len(self.lost),
            errors_5xx=self.errors_5xx,
            ended="store whole, index as the store",
        )


class Worker:
    """One client with its own labels, so that their expected state is known.

    `possible` holds one state per label, or several if the last operation on it was not answered.
    """

    def __init__(
        self,
        number: int,
        seed: int,
        images: Sequence[bytes],
        batches: bool = True,
        in_doubt: frozenset[int] = _IN_DOUBT,
    ) -> None:
        self._in_doubt = in_doubt
        self.chance = random.Random(seed)
        self.labels = [f"w{number} c{place}" for place in range(_LABELS_EACH)]
        self.images = images
        self.possible: dict[str, set[Shots]] = {label: {()} for label in self.labels}
        self.acknowledged = 0
        self.unanswered = 0
        self.errors_5xx = 0
        self.version = 0  # highest version in an answer
        self._batches = batches

    def _note(self, answer: httpx.Response) -> None:
        if answer.status_code in self._in_doubt:
            raise httpx.RemoteProtocolError("nobody knows whether it was done")
        self.errors_5xx += answer.status_code >= 500 and answer.status_code != 503
        self.version = max(self.version, int(answer.headers.get("Oneshot-Version", 0)))

    def run(self, url: str, stop: threading.Event | None = None) -> None:
        """Send operations until the connection breaks or `stop` is set."""
        hooks = {"response": [self._note]}
        with httpx.Client(base_url=url, timeout=60, trust_env=False, event_hooks=hooks) as client:
            while stop is None or not stop.is_set():
                states = self._choose()
                before = {label: self.possible[label] for label in states}
                for label, state in states.items():
                    self.possible[label] = before[label] | {state}
                try:
                    done = self._send(client, states, before)
                except (httpx.TransportError, ValueError):
                    self.unanswered += 1
                    return
                if done:
                    self.acknowledged += 1
                    self.possible |= {label: {state} for label, state in states.items()}
                else:
                    self.possible |= before

    def _choose(self) -> dict[str, Shots]:
        """Choose an operation: the new state of each label that it changes."""
        if self._batches and self.chance.random() < 0.2:
            picked = self.chance.sample(self.labels, self.chance.randint(2, 6))
            return {label: (self._image(label),) for label in picked}
        label = self.chance.choice(self.labels)
        [state] = self.possible[label]
        if state and self.chance.random() < 0.3:
            return {label: ()}
        image = self._image(label)
        return {label: (*state, image) if state and self.chance.random() < 0.4 and len(state) < 4 else (image,)}

    def _image(self, label: str) -> bytes:
        # PNG readers stop at the end chunk, so trailing bytes make each image unique
        return self.chance.choice(self.images) + f"{label} {self.chance.getrandbits(64):016x}".encode()

    def _send(self, client: httpx.Client, states: dict[str, Shots], before: dict[str, set[Shots]]) -> bool:
        if len(states) > 1:
            lines = [
                json.dumps({"label": label, "image": base64.b64encode(shots[-1]).decode()})
                for label, shots in states.items()
            ]
            answer = client.post(
                "/enroll/batch", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
            )
            return answer.status_code == 200 and answer.json()["failed"] == 0
        [(label, shots)] = states.items()
        if not shots:
            return client.delete(f"/classes/{label}").status_code == 204
        [old] = before[label]
        rule = "add" if len(shots) > 1 and shots[:-1] == old else "replace"
        data = {"label": label, "on_conflict": rule}
        return client.post("/enroll", data=data, files={"image": ("x.png", shots[-1])}).is_success


@contextlib.contextmanager
def at_work(tasks: Iterable[Callable[[threading.Event], None]]) -> Iterator[None]:
    """Run each task in its own thread while the block runs; at the end set their shared stop event and join them."""
    stop = threading.Event()
    threads = [threading.Thread(target=task, args=(stop,)) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Server:
    """`oneshot serve` on a data folder, in its own process group."""

    def __init__(
        self,
        home: Path,
        model: Path | None,
        workers: int,
        log: Path,
        *,
        store: str = "",
        options: Sequence[str] = (),
    ) -> None:
        command = [str(Path(sys.executable).parent / "oneshot"), "serve", "--port", "0", "--home", str(home)]
        command += ["--workers", str(workers), "--threads", "1"] + (["--model", str(model)] if model else [])
        command += options  # the last of a repeated option wins
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ONESHOT_STORE": store}
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(command, env=environment, stderr=stream, start_new_session=True)
        self.url = self._wait()

    def _wait(self) -> str:
        give_up = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            for line in self._lines():
                url = json.loads(line).get("url") if line.startswith("{") else None
                with contextlib.suppress(httpx.TransportError):
                    if url and httpx.get(f"{url}/readyz", timeout=10, trust_env=False).is_success:
                        return str(url)
            time.sleep(0.02)
        self.kill()
        raise RuntimeError("the server did not start:\n" + "".join(self._lines()[-20:]))

    def _lines(self) -> list[str]:
        return [line for line in self._log.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def compare(url: str, worker: Worker, report: Report, searches: int) -> None:
    """Check the state of the worker's classes, record violations in `report`, and settle `worker.possible`."""
    seen = {"Oneshot-Min-Version": str(worker.version)}
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=seen) as client:
        for label in worker.labels:
            found = _shots(client, label)
            report.compared += 1
            if found not in worker.possible[label]:
                expected = [[image[-40:] for image in shots] for shots in worker.possible[label]]
                report.lost.append(f"{label}: {[image[-40:] for image in found]} is none of {expected}")
            worker.possible[label] = {found}
        there = [label for label in worker.labels if worker.possible[label] != {()}]
        for label in worker.chance.sample(there, min(searches, len(there))):
            [shots] = worker.possible[label]
            report.searched += 1
            if not _is_found(client, label, shots[-1]):
                report.lost.append(f"{label}: stored, but not found by its image")


def _shots(client: httpx.Client, label: str) -> Shots:
    answer = client.get(f"/classes/{label}")
    if answer.status_code == 404:
        return ()
    count = answer.raise_for_status().json()["shots"]
    images = [client.get(f"/classes/{label}/image", params={"shot": shot}) for shot in range(count)]
    return tuple(image.raise_for_status().content for image in images)


def _is_found(client: httpx.Client, label: str, image: bytes) -> bool:
    """Whether verification returns about distance 0 for the class, and classification a nearest candidate at 0."""
    same = client.post("/verify", data={"label": label}, files={"image1": ("x.png", image)}).raise_for_status().json()
    answer = client.post("/classify", params={"k": 100}, files={"image": ("x.png", image)}).raise_for_status().json()
    nearest: dict[str, Any] = answer["candidates"][0]
    return bool(same["distance"] < 1e-3 and nearest["distance"] < 1e-3)


def compare_all(url: str, workers: Sequence[Worker], report: Report) -> None:
    """Compare and search for every class of every worker, and look for classes that belong to none."""
    for worker in workers:
        compare(url, worker, report, searches=_LABELS_EACH)
    listed = {each["label"] for each in httpx.get(f"{url}/classes?limit=1000").json()["classes"]}
    expected = {label for worker in workers for label in worker.labels if worker.possible[label] != {()}}
    report.lost += [f"{label}: listed, but nobody's" for label in listed ^ expected]
