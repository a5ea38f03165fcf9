"""One process, several workers, several nodes, Ray: the same load and the same faults; writes docs/nodes.md.

    python -m benchmarks.nodes          needs wrk, PostgreSQL's programs, ONESHOT_DATASETS
    python -m benchmarks.nodes --only workers --rounds 1 --seconds 2 --samples 20 --kills 2

Throughput is taken in interleaved rounds, by wrk, with a thread for each address. Then each configuration is asked how
stale its answers are, and is killed in part, again and again, under work whose acknowledged operations are compared.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.nodes_groups import CONFIGURATIONS, Configuration, Group
from benchmarks.nodes_page import write_page
from benchmarks.peers.contestants import enrol
from benchmarks.peers.material import make
from benchmarks.peers.measure import wrk
from testing.processes import process_of
from testing.proofs import run
from testing.torture import Report, Worker, at_work, compare, compare_all

_GALLERY = "staleness"
_CLIENTS, _LOADS = 3, 2
_PNG = {"Content-Type": "image/png"}


def throughput(group: Group, material: Path, connections: int, seconds: float) -> dict[str, float]:
    """Requests per second and latencies in ms, with `connections` connections over all addresses."""
    files = sorted((material / "queries").iterdir())
    enrol(group.urls[0], material)
    for each in (1.0, seconds):
        found = wrk(group.urls[0], files, connections, each, targets=group.urls)
    failures = found["status"] + found["socket"] + found["timeout"]
    rate = 1e6 * found["requests"] / found["microseconds"]
    return {"rate": rate, "p50": found["p50"] / 1000, "p99": found["p99"] / 1000, "failures": failures}


@contextmanager
def doors(urls: Sequence[str]) -> Iterator[list[httpx.Client]]:
    """Connections to different processes: one per address, or for a single address two held by different processes."""
    with ExitStack() as stack:

        def connect(url: str) -> httpx.Client:
            return stack.enter_context(httpx.Client(base_url=url, timeout=60, trust_env=False))

        if len(urls) > 1:
            yield [connect(url) for url in urls]
            return
        clients = [connect(urls[0]) for _ in range(40)]
        with ThreadPoolExecutor(len(clients)) as threads:  # all at once, or one idle process accepts them all
            of_process = dict(zip(threads.map(process_of, clients), clients, strict=True))
        yield (list(of_process.values()) * 2)[:2]


def staleness(clients: Sequence[httpx.Client], images: Sequence[bytes], samples: int) -> dict[str, Any]:
    """Measure how long another process answers without an acknowledged enrolment.

    `stale` holds the milliseconds until a classification without a version includes it, 0 if the first one does.
    `asked` counts classifications that named the version, and `unseen` those of them answered without it.
    """
    stale: list[float] = []
    asked = unseen = 0
    for number in range(samples):
        writer, reader = clients[number % len(clients)], clients[(number + 1) % len(clients)]
        image = images[number % len(images)]
        data = {"label": f"s{number}", "gallery": _GALLERY}
        answer = writer.post("/enroll", data=data, files={"image": ("x", image)}).raise_for_status()
        began = time.perf_counter()
        if number % 2:
            asked += 1
            version = {"Oneshot-Min-Version": answer.headers["Oneshot-Version"]}
            unseen += _known(reader, image, **version) <= number
        else:
            stale.append(1000 * _until_known(reader, image, number + 1, began))
    return {"stale": stale, "asked": asked, "unseen": unseen}


def _known(client: httpx.Client, image: bytes, **headers: str) -> int:
    """The gallery size in a classification's answer; 0 if the process is behind the requested version."""
    params: dict[str, str | int] = {"gallery": _GALLERY, "k": 1}
    answer = client.post("/classify", params=params, content=image, headers={**_PNG, **headers})
    if answer.status_code == 404 or (answer.status_code == 503 and headers):  # no such gallery yet, or behind
        return 0
    return int(answer.raise_for_status().json()["gallery_size"])


def _until_known(client: httpx.Client, image: bytes, size: int, began: float) -> float:
    for attempt in itertools.count():
        sent = time.perf_counter() - began
        if sent > 60:
            raise RuntimeError("an enrolment was not seen within a minute")
        if _known(client, image) >= size:
            return sent if attempt else 0.0
    raise AssertionError


@dataclass
class Asked:
    """Outcomes of classifications under faults. A client tries the next address if one does not answer."""

    answered: int = 0
    unanswered: int = 0
    gap_s: float = 0.0  # longest time without an answer
    _last: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Start the clock of the gaps."""
        self._last = time.monotonic()

    def ask(self, urls: Sequence[str], image: bytes, stop: threading.Event) -> None:
        """Classify until `stop` is set."""
        while not stop.is_set():
            good = any(_answers(url, image) for url in urls)
            with self._lock:
                now = time.monotonic()
                if good:
                    self.answered += 1
                    self.gap_s, self._last = max(self.gap_s, now - self._last), now
                else:
                    self.unanswered += 1
            if not good:
                time.sleep(0.02)


def _answers(url: str, image: bytes) -> bool:
    try:
        answer = httpx.post(f"{url}/classify", content=image, headers=_PNG, timeout=60, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.is_success and bool(answer.json()["candidates"])


def torture(group: Group, images: Sequence[bytes], kills: int, seed: int) -> tuple[Report, Asked]:
    """Kill part of the group `kills` times under writing and classifying clients; compare all classes after each."""
    chance, report, asked, began = random.Random(seed), Report(), Asked(), time.monotonic()
    workers = [Worker(number, seed * 1000 + number, images, in_doubt=group.in_doubt) for number in range(_CLIENTS)]
    urls = group.urls
    httpx.post(f"{urls[0]}/enroll", data={"label": "stays"}, files={"image": ("x", images[0])}).raise_for_status()
    for report.kills in range(1, kills + 1):
        writing = [
            partial(worker.run, urls[(number + report.kills) % len(urls)]) for number, worker in enumerate(workers)
        ]
        orders = [urls[number % len(urls) :] + urls[: number % len(urls)] for number in range(_LOADS)]
        asked.begin()
        with at_work([*writing, *(partial(asked.ask, order, images[0]) for order in orders)]):
            time.sleep(chance.uniform(0.3, 1.5))
            group.kill(chance)
            group.start()
            group.settle()
            time.sleep(chance.uniform(0.5, 1.5))
        for number, worker in enumerate(workers):
            compare(urls[(number + report.kills + 1) % len(urls)], worker, report, searches=2)
    httpx.delete(f"{urls[0]}/classes/stays", timeout=60).raise_for_status()
    compare_all(urls[-1], workers, report)
    report.add(workers, began)
    return report, asked


def visit(each: Configuration, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure staleness and faults of one configuration, in its own data folder."""
    images = [path.read_bytes() for path in sorted((options.material / "queries").iterdir())]
    with each.run(folder) as group:
        with doors(group.urls) as clients:
            found = staleness(clients, images, options.samples)
        httpx.delete(f"{group.urls[0]}/galleries/{_GALLERY}", timeout=60).raise_for_status()
        report, asked = torture(group, images, options.kills, seed=0)
    print(report.render(), asked, sep="\n", flush=True)
    if found["unseen"]:
        raise SystemExit(f"{each.name}: {found['unseen']} questions that named a version were not answered with it")
    return found | {
        "kills": report.kills,
        "acknowledged": report.acknowledged,
        "cut_off": report.unanswered,
        "compared": report.compared,
        "lost": len(report.lost),
        "answered": asked.answered,
        "unanswered": asked.unanswered,
        "gap_s": asked.gap_s,
        "load": os.getloadavg()[0],
        "run": run(),
    }


def main() -> None:
    """Run the command line."""
    options = _options()
    chosen = [each for each in CONFIGURATIONS if not options.only or any(text in each.name for text in options.only)]
    lacking = {each.name: why for each in chosen if (why := each.missing())}
    chosen = [each for each in chosen if each.name not in lacking]
    found: dict[str, dict[str, Any]] = {each.name: {"looks": []} for each in chosen}
    with tempfile.TemporaryDirectory(prefix="oneshot-nodes-") as name:
        folder = Path(name)
        options.material = folder / "material"
        make(options.datasets, options.material)
        for round_, each in itertools.product(range(options.rounds), chosen):
            with each.run(folder / f"{each.name} {round_}") as group:
                look = throughput(group, options.material, options.connections, options.seconds)
            print(each.name, look, flush=True)
            found[each.name]["looks"].append(look)
        for each in chosen:
            print(each.name, flush=True)
            found[each.name] |= visit(each, folder / f"{each.name} faults", options)
            found[each.name]["connections"], found[each.name]["seconds"] = options.connections, options.seconds
    write_page(found, lacking)
    if any(each["lost"] for each in found.values()):
        raise SystemExit("operations were lost")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of throughput")
    parser.add_argument("--seconds", type=float, default=5, help="of each round")
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--samples", type=int, default=200, help="of staleness")
    parser.add_argument("--kills", type=int, default=10, help="of each configuration")
    parser.add_argument("--only", action="append", help="configurations whose name holds this")
    parser.add_argument("--datasets", type=Path, default=os.environ.get("ONESHOT_DATASETS", "datasets"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
