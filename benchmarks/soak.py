"""Mixed load with faults for an hour: does memory grow, do descriptors leak, is anything lost or a 500?

    python -m benchmarks.soak [--minutes 60] [--rate 10] [--model ARTEFACT]

Starts a server of its own, with the shipped model unless told otherwise. Faults: hostile images, clients that hang up
in the middle of a body or send it too slowly, wrong requests, deletions beside classifications, a disk that is full for
a while; at the end SIGTERM under load.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from testing.growth import Sample, slope, tell, watch
from testing.hostile import drawing, encoded, mutations
from testing.processes import Server
from testing.proofs import Proof, record

_CLIENTS = 4
_LABELS = 200
_SAMPLES = 240
_FULL_DISKS = 12
_HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\nabc"


class Soak:
    """The clients' work and its outcomes: `rate` requests per second in total, at random times."""

    def __init__(self, url: str, rate: float) -> None:
        self.url = url
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.stop = threading.Event()
        self.leaving = threading.Event()
        self._pause = _CLIENTS / rate
        self._lock = threading.Lock()

    def work(self, seed: int) -> None:
        """Run one client until `stop`."""
        rng = random.Random(seed)
        hostile = mutations(seed, 10**9)
        acts: list[Callable[[httpx.Client], httpx.Response]] = [
            lambda client: client.post("/classify", files={"image": ("x", _image(rng))}),
            lambda client: client.post("/enroll", data={"label": _label(rng)}, files={"image": ("x", _image(rng))}),
            lambda client: client.post("/embed", files=[("image", ("x", _image(rng)))] * rng.randint(1, 8)),
            lambda client: client.delete(f"/classes/{_label(rng)}"),
            lambda client: client.get("/classes"),
            lambda client: client.get("/metrics"),
        ]
        while not self.stop.is_set():
            with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
                for _ in range(rng.randint(1, 50)):
                    self.stop.wait(rng.expovariate(1 / self._pause))
                    if self.stop.is_set() or not self._step(client, rng, acts, hostile):
                        break

    def _step(
        self,
        client: httpx.Client,
        rng: random.Random,
        acts: list[Callable[[httpx.Client], httpx.Response]],
        hostile: Iterator[tuple[str, bytes]],
    ) -> bool:
        dice = rng.random()
        if dice < 0.05:
            self._hang_up()
            return True
        try:
            if dice < 0.25:
                self._count(self.faults, "hostile image")
                answer = client.post("/classify", content=next(hostile)[1], headers={"Content-Type": "image/png"})
            else:
                answer = rng.choice(acts)(client)
        except httpx.ConnectError:
            self._count(self.statuses, "turned away" if self.leaving.is_set() else "no connection")
            time.sleep(0.05)
            return False
        except httpx.TransportError:
            self._count(self.statuses, "lost")
            return False
        self._count(self.statuses, str(answer.status_code))
        return True

    def _hang_up(self) -> None:
        self._count(self.faults, "connection closed in the middle of a body")
        try:
            with self._connect() as connection:
                connection.sendall(_HEAD)
        except OSError:
            if not self.leaving.is_set():
                self._count(self.statuses, "no connection")

    def drip(self) -> None:
        """Run a client that never finishes its bodies, until `stop`."""
        while not self.stop.wait(1):
            try:
                with self._connect(60) as connection:
                    self._count(self.faults, "body that is sent too slowly")
                    connection.sendall(_HEAD)
                    answer = connection.recv(4000)
                if not answer.startswith(b"HTTP/1.1 408") and not self.leaving.is_set():
                    self._count(self.statuses, "lost")
            except OSError:
                if not self.leaving.is_set():
                    self._count(self.statuses, "no connection")

    def fill_disk(self, pid: int, pause: float) -> None:
        """Simulate a full disk for two seconds, repeatedly, until `stop`."""
        while not self.stop.wait(pause) and not self.leaving.is_set():
            with contextlib.suppress(ProcessLookupError):  # the soak may have stopped the server meanwhile
                before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
                self._count(self.faults, "disk full for 2 s")
                self.stop.wait(2)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def _connect(self, timeout: float = 10) -> socket.socket:
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=timeout)

    def _count(self, counter: Counter[str], what: str) -> None:
        with self._lock:
            counter[what] += 1


def _image(rng: random.Random) -> bytes:
    return encoded(drawing(rng.randint(20, 105)), "PNG")


def _label(rng: random.Random) -> str:
    return f"label-{rng.randrange(_LABELS)}"


@dataclass(frozen=True)
class Result:
    """The result of a soak; `statuses` counts answers by status, and unanswered requests by outcome."""

    minutes: float
    faults: dict[str, int]
    statuses: dict[str, int]
    samples: list[Sample]
    exit_code: int
    logged_errors: dict[str, int]

    @property
    def requests(self) -> int:
        """Number of requests sent."""
        return sum(self.statuses.values()) - self.statuses.get("turned away", 0)

    @property
    def lost(self) -> int:
        """Number of requests without an answer."""
        return self.statuses.get("lost", 0) + self.statuses.get("no connection", 0)

    @property
    def errors_5xx(self) -> int:
        """Number of answers with a 5xx status other than 503."""
        return sum(count for status, count in self.statuses.items() if status[:1] == "5" and status != "503")

    def proof(self) -> Proof:
        """The entry for the page of proofs."""
        first, last = self.samples[0], self.samples[-1]
        most = max(each.descriptors for each in self.samples)
        return Proof(
            f"{self.minutes:g} minutes of mixed load",
            f"python -m benchmarks.soak --minutes {self.minutes:g}",
            {"requests": self.requests},
            {**self.faults, "SIGTERM under load": 1},
            self.lost,
            self.errors_5xx,
            f"memory {slope(self.samples)} after a third of the time, from {first.resident:.0f} MB at the start to "
            f"{last.resident:.0f} MB; descriptors {last.descriptors} at the end, {most} at most",
            f"exit code {self.exit_code}; answers: "
            + ", ".join(f"{count:,} x {status}" for status, count in self.statuses.items()),
        )


def soak(
    minutes: float,
    home: Path,
    model: Path | None,
    rate: float,
    seen: Callable[[Sample], None] = lambda _sample: None,
) -> Result:
    """Run the load and the faults against a new server, and stop it under load."""
    with Server(home, model) as server:
        load = Soak(server.ready().url, rate)
        threads = [threading.Thread(target=load.work, args=(seed,)) for seed in range(_CLIENTS)]
        threads.append(threading.Thread(target=load.drip))
        pause = 60 * minutes / _FULL_DISKS
        threads.append(threading.Thread(target=load.fill_disk, args=(server.process.pid, pause)))
        try:
            for thread in threads:
                thread.start()
            samples = watch(server.process.pid, minutes, _SAMPLES, seen)
            load.leaving.set()
            code = server.stop()
        finally:
            load.leaving.set()
            load.stop.set()
            for thread in threads:
                thread.join()
        errors = Counter(str(entry["event"]) for entry in server.log if entry["level"] in {"error", "critical"})
    return Result(
        minutes, dict(sorted(load.faults.items())), dict(sorted(load.statuses.items())), samples, code, dict(errors)
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=10, help="requests a second (default: %(default)s)")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(options.minutes, Path(folder) / "home", options.model, options.rate, tell)
    proof = result.proof()
    print(proof)
    print(f"anonymous memory {slope(result.samples, what='anonymous')}; logged errors {result.logged_errors}")
    record("soak", proof)
    if result.lost or result.errors_5xx or result.exit_code:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
