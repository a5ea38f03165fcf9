"""Two servers on one PostgreSQL database, all three killed at random moments under concurrent work.

As in `benchmarks.faults`, acknowledged operations are compared with the store, here always through the other server.
While the database is down the servers must stay up and keep classifying.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx

from testing.postgres import Postgres
from testing.torture import Report, Server, Worker, at_work, compare, compare_all

_NODES = 2
_FAULTS = ("database killed", "database stopped", "server killed", "all killed")


class Cluster:
    """The database and its servers; `start` starts those that are down."""

    def __init__(self, home: Path, model: Path | None) -> None:
        self._home, self._model = home, model
        self.database = Postgres()
        self._store = self.database.new_store()
        self._servers: list[Server | None] = [None] * _NODES

    def start(self) -> None:
        """Start every server that is down; the database must be up."""
        for number, server in enumerate(self._servers):
            if server is None:
                home, log = self._home.with_name(f"home{number}"), self._home.with_name(f"server{number}.log")
                self._servers[number] = Server(home, self._model, 1, log, store=self._store)

    @property
    def urls(self) -> list[str]:
        """The servers' URLs."""
        return [server.url for server in self._servers if server is not None]

    def kill(self, number: int) -> None:
        """Send SIGKILL to a server."""
        server, self._servers[number] = self._servers[number], None
        if server is not None:
            server.kill()

    def close(self) -> None:
        """Stop the servers and the database."""
        for number in range(_NODES):
            self.kill(number)
        self.database.__exit__(None, None, None)


def torture_cluster(
    home: Path,
    model: Path | None,
    images: Sequence[bytes],
    *,
    kills: int | None,
    seconds: float | None = None,
    clients: int = 4,
    seed: int = 0,
) -> Report:
    """Inject `kills` faults, cycling through all kinds, or as many as fit into `seconds`."""
    chance, report, began = random.Random(seed), Report(faults=dict.fromkeys(_FAULTS, 0)), time.monotonic()
    workers = [Worker(number, seed * 1000 + number, images) for number in range(clients)]
    with ExitStack() as stack:
        cluster = Cluster(home, model)
        stack.callback(cluster.close)
        cluster.start()
        httpx.post(f"{cluster.urls[0]}/enroll", data={"label": "stays"}, files={"image": ("x", images[0])})
        while report.goes_on(kills, seconds, began):
            _compare_each(cluster, workers, report, searches=2)
            _round(cluster, workers, report, chance, images[0])
            cluster.start()
        httpx.delete(f"{cluster.urls[0]}/classes/stays", timeout=60).raise_for_status()
        for url in cluster.urls:
            compare_all(url, workers, report)
    report.add(workers, began)
    return report


def _compare_each(cluster: Cluster, workers: Sequence[Worker], report: Report, searches: int) -> None:
    for number, worker in enumerate(workers):  # it worked through the other server
        compare(cluster.urls[(number + report.kills) % _NODES], worker, report, searches)


def _round(cluster: Cluster, workers: Sequence[Worker], report: Report, chance: random.Random, image: bytes) -> None:
    """Let the workers run, inject a fault, let them continue for a while, and stop them."""
    urls, database = cluster.urls, cluster.database
    kind = _FAULTS[report.kills % len(_FAULTS)]
    with at_work(partial(each.run, urls[(place + report.kills + 1) % _NODES]) for place, each in enumerate(workers)):
        time.sleep(chance.uniform(0.02, 1.5))
        report.kills += 1
        report.faults[kind] += 1
        if kind != "server killed":
            (database.stop if kind == "database stopped" else database.kill)()
        if kind in {"server killed", "all killed"}:
            for number in range(_NODES) if kind == "all killed" else (chance.randrange(_NODES),):
                cluster.kill(number)
        else:
            _classify(urls, report, chance.uniform(0.1, 1.0), image)
        if kind != "server killed":
            database.start()
        time.sleep(chance.uniform(0.1, 1.0))


def _classify(urls: Sequence[str], report: Report, seconds: float, image: bytes) -> None:
    """Classify through every server while the database is down; each must answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for url in urls:
            answer = httpx.post(f"{url}/classify", files={"image": ("x", image)}, timeout=60, trust_env=False)
            if answer.is_success and answer.json()["candidates"]:
                report.classified += 1
            else:
                report.lost.append(f"classification while the database was away: {answer.status_code} {answer.text}")
