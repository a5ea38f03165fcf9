"""Attacks on a server with the default settings: what they take of its memory, and what its other clients notice.

    python -m benchmarks.siege [--only NAME ...] [--model ARTEFACT]

Each attack has a server of its own, with the shipped model unless told otherwise. All the while a neighbour, at another
address, asks `/livez` and classifies images, small ones and those of a camera's size; he is harmed when an answer is
wrong, refused or takes more than ten seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.attacks import LABEL, Attack, attacks, large_image
from testing.growth import look, peak
from testing.hostile import drawing, encoded
from testing.processes import Server, enroll
from testing.proofs import Proof, record

_ELSEWHERE = "127.0.0.2"
_PAUSE = 0.02
_PATIENCE = 10.0
_RECOVERY_SECONDS = 60.0
_LOOK_AHEAD_SECONDS = 2.0
_OWN = "neighbour's"
_SMALL = encoded(drawing(), "PNG")


class Neighbour:
    """A well-behaved client with two threads; it counts requests, failures and the slowest answers."""

    def __init__(self, url: str) -> None:
        self.asked: Counter[str] = Counter()
        self.harmed: list[str] = []
        self.slowest: dict[str, float] = {}
        self._url = url
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._images = (_SMALL, encoded(drawing().resize((1200, 1200)), "JPEG"))
        self._threads = [threading.Thread(target=self._work, args=(ask,)) for ask in (self._probe, self._classify)]

    def _probe(self, client: httpx.Client, _turn: int) -> tuple[str, bool]:
        return "/livez", client.get("/livez").status_code == 200

    def _classify(self, client: httpx.Client, turn: int) -> tuple[str, bool]:
        answer = client.post("/classify", content=self._images[turn % 2], headers={"Content-Type": "image/png"})
        return "/classify", answer.status_code == 200 and answer.json()["label"] == _OWN

    def _work(self, ask: Callable[[httpx.Client, int], tuple[str, bool]]) -> None:
        transport = httpx.HTTPTransport(local_address=_ELSEWHERE)
        with httpx.Client(base_url=self._url, timeout=_PATIENCE, transport=transport, trust_env=False) as client:
            turn = 0
            while not self._stop.is_set():
                began = time.perf_counter()
                try:
                    what, well = ask(client, turn)
                except httpx.TransportError as error:
                    what, well = repr(error), False
                seconds = time.perf_counter() - began
                with self._lock:
                    self.asked[what] += 1
                    self.slowest[what] = max(self.slowest.get(what, 0.0), seconds)
                    self.harmed += [] if well and seconds < _PATIENCE else [f"{what} after {seconds:.1f} s"]
                turn += 1
                self._stop.wait(_PAUSE)

    def __enter__(self) -> Neighbour:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@dataclass(frozen=True)
class Result:
    """The effect of an attack: the server's megabytes when idle, at the peak and after; seconds to recover."""

    name: str
    attack: Attack
    outcomes: Counter[str]
    idle: float
    peak: float
    after: float
    recovered: float
    asked: Counter[str]
    harmed: list[str]
    slowest: dict[str, float]
    kept: bool
    exit_code: int

    def faults(self) -> list[str]:
        """Every violated criterion, in words."""
        found = [f"{count} x {what}" for what, count in self.outcomes.items() if what not in self.attack.right]
        found += [f"neighbour: {what}" for what in self.harmed]
        if self.peak - self.idle > self.attack.most_mb:
            found.append(f"{self.peak - self.idle:.0f} MB more, at most {self.attack.most_mb} are right")
        if self.recovered >= _RECOVERY_SECONDS:
            found.append(f"not recovered after {self.recovered:.0f} s")
        if not self.kept:
            found.append("what was stored is changed")
        return found + ([f"exit code {self.exit_code}"] if self.exit_code else [])

    def proof(self) -> Proof:
        """The entry for the page of proofs."""
        answers = ", ".join(f"{count:,} x {what}" for what, count in sorted(self.outcomes.items()))
        slowest = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in sorted(self.slowest.items()))
        return Proof(
            self.attack.what,
            f'python -m benchmarks.siege --only "{self.name}"',
            {f"{what} of a neighbour": count for what, count in sorted(self.asked.items())},
            {self.attack.fault: self.outcomes.total()},
            self.outcomes["lost"] + len(self.harmed),
            sum(count for what, count in self.outcomes.items() if what[:1] == "5" and what != "503"),
            f"memory {self.peak - self.idle:+.0f} MB at the peak and {self.after - self.idle:+.0f} MB after it, "
            f"from {self.idle:.0f} MB when idle",
            f"{answers}; recovered after {self.recovered:.1f} s; neighbours harmed: {len(self.harmed)} "
            f"(slowest answers: {slowest})",
        )


def besiege(name: str, attack: Attack, home: Path, model: Path | None, send_timeout: float = 20) -> Result:
    """Attack a new server."""
    with Server(home, model, ONESHOT_SEND_TIMEOUT=str(send_timeout)) as server:
        pid, address = server.ready().process.pid, server.url.removeprefix("http://")
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            for label, image in ((LABEL, large_image()), (_OWN, _SMALL)):
                enroll(client, label, image).raise_for_status()
            stored = client.get("/classes").json()
            with Neighbour(server.url) as neighbour:
                time.sleep(_LOOK_AHEAD_SECONDS)  # memory for the first answers is not due to the attack
                peak(pid)
                idle = look(pid, 0).resident
                with attack.strike(address) as outcomes:
                    recovered = _recovered(attack, address)
            highest, after = peak(pid), look(pid, 0).resident
            kept = client.get("/classes").json() == stored
        code = server.stop()
    return Result(
        name, attack, outcomes, idle, highest, after, recovered,
        neighbour.asked, neighbour.harmed, neighbour.slowest, kept, code,
    )  # fmt: skip


def _recovered(attack: Attack, address: str) -> float:
    """Seconds until the attacker's legitimate request is answered with 200 again."""
    began = time.monotonic()
    while attack.good.status(address) != 200 and time.monotonic() - began < _RECOVERY_SECONDS:
        time.sleep(_PAUSE)
    return time.monotonic() - began


def main() -> None:
    """Run the command line."""
    known = dict(attacks())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=known, default=list(known), metavar="NAME", help=", ".join(known))
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    failed = False
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            result = besiege(name, known[name], Path(folder) / "home", options.model)
        print(result.proof(), flush=True)
        if faults := result.faults():
            failed = True
            print(f"{name} failed: {', '.join(faults[:20])}", flush=True)
        else:
            record(f"siege: {name}", result.proof())
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
