"""Mixed load with faults for an hour: does memory grow, do file descriptors leak, is anything lost or a 500?

    python -m benchmarks.soak [--minutes 60] [--home FOLDER] [--model ARTEFACT] [--json FILE]

Starts a server of its own, with the shipped model unless told otherwise. Faults: hostile images, clients that hang up
in the middle of a body, wrong requests, deletions beside classifications; at the end SIGTERM under load.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.hostile import drawing, encoded, mutations

_CLIENTS = 4
_LABELS = 200


class Soak:
    """The clients' work and what became of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.stop = threading.Event()
        self.leaving = threading.Event()
        self._lock = threading.Lock()

    def work(self, seed: int) -> None:
        """One client, until `stop`."""
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
        host, port = self.url.removeprefix("http://").split(":")
        try:
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(
                    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\nabc"
                )
        except OSError:
            if not self.leaving.is_set():
                self._count(self.statuses, "no connection")

    def _count(self, counter: Counter[str], what: str) -> None:
        with self._lock:
            counter[what] += 1


def _image(rng: random.Random) -> bytes:
    return encoded(drawing(rng.randint(20, 105)), "PNG")


def _label(rng: random.Random) -> str:
    return f"label-{rng.randrange(_LABELS)}"


def measure(pid: int, minutes: float, samples: int = 60) -> list[tuple[float, float, int]]:
    """Seconds, megabytes and file descriptors of the process, over the time."""
    found: list[tuple[float, float, int]] = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < 60 * minutes:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        found.append((now, pages * 4096 / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))))
        time.sleep(60 * minutes / samples)
    return found


def soak(minutes: float, home: Path, model: Path | None) -> dict[str, Any]:
    """Run it all; the result as it goes into the table."""
    command = [str(Path(sys.executable).with_name("oneshot")), "serve", "--port", "0", "--home", str(home)]
    command += ["--model", str(model)] if model else []
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stderr=log, text=True)
        try:
            load = Soak(_address(server, log))
            threads = [threading.Thread(target=load.work, args=(seed,)) for seed in range(_CLIENTS)]
            for thread in threads:
                thread.start()
            samples = measure(server.pid, minutes)
            load.leaving.set()
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
            load.stop.set()
            for thread in threads:
                thread.join()
        finally:
            server.kill()
            server.wait()
    return _result(minutes, load, samples, code)


def _address(server: subprocess.Popen[str], log: Any) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        log.seek(0)
        if match := re.search(r'"event": "started".*?"url": "(http://[^"]+)"', log.read()):
            while httpx.get(f"{match[1]}/readyz", trust_env=False).status_code != 200:
                time.sleep(0.1)
            return match[1]
        time.sleep(0.2)
    raise RuntimeError("the server did not start")


def _result(minutes: float, load: Soak, samples: list[tuple[float, float, int]], code: int) -> dict[str, Any]:
    settled = np.array(samples[len(samples) // 2 :])
    slope = float(np.polyfit(settled[:, 0] / 3600, settled[:, 1], 1)[0]) if len(settled) > 1 else 0.0
    statuses = dict(sorted(load.statuses.items()))
    return {
        "minutes": minutes,
        "requests": sum(load.statuses.values()),
        "faults": dict(load.faults),
        "statuses": statuses,
        "errors_5xx": sum(count for status, count in statuses.items() if status[:1] == "5" and status != "503"),
        "lost": statuses.get("lost", 0),
        "megabytes_start": samples[0][1],
        "megabytes_end": samples[-1][1],
        "megabytes_per_hour_second_half": round(slope, 1),
        "descriptors_most": max(sample[2] for sample in samples),
        "descriptors_end": samples[-1][2],
        "exit_code": code,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(options.minutes, options.home or Path(folder) / "home", options.model)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
