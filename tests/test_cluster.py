"""The cluster's Compose file, run for real: a server killed under load, the database stopped and started again.

The images of PostgreSQL and HAProxy are built from Debian packages (tests/standins), because a registry may not be
reachable. Compose file and configuration are the project's own. Acknowledged operations are compared as in
`testing.torture`, through the load balancer.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import httpx
import pytest

from testing.containers import ROOT, Engine, composed, wait_for
from testing.factories import draw_character, png_bytes
from testing.proofs import Proof, record
from testing.torture import Report, Worker, at_work, compare, compare_all

PROJECT = "oneshot-test-cluster"
FILES = ("docker-compose.yml", "docker-compose.cluster.yml")
SERVERS = 3
#: 502 and 504 also come from the load balancer, when a server dies during a request.
IN_DOUBT = frozenset({502, 504})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Engine]:
    images = {"POSTGRES_IMAGE": f"{PROJECT}-database", "BALANCER_IMAGE": f"{PROJECT}-balancer"}
    password = secrets.token_hex(16)
    with (
        composed(PROJECT, PROJECT, *FILES, extras="postgres", POSTGRES_PASSWORD=password, **images) as engine,
        ExitStack() as undo,
    ):
        for image in images.values():
            target = image.rpartition("-")[2]
            engine.docker("build", "--network=host", "--target", target, "--tag", image, str(ROOT / "tests/standins"))
            undo.callback(engine.docker, "image", "rm", "--force", image)
        undo.callback(engine.compose, "down", "--volumes", "--timeout", "5")  # runs before the engine stops
        yield engine


def classify(client: httpx.Client, image: bytes) -> httpx.Response:
    return client.post("/classify", content=image, headers={"Content-Type": "image/png"})


class Load:
    """Clients that classify continuously, and the counts of their answers."""

    def __init__(self, url: str, image: bytes) -> None:
        self._url, self._image = url, image
        self.answers: Counter[str] = Counter()
        self.ages = 0

    def run(self, stop: threading.Event) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while not stop.is_set():
                try:
                    answer = classify(client, self._image)
                except httpx.TransportError:
                    self.answers["lost"] += 1
                    continue
                known = answer.status_code == 200 and answer.json()["candidates"]
                self.answers["classified" if known else str(answer.status_code)] += 1
                self.ages += "Age" in answer.headers


def under_load(url: str, workers: Sequence[Worker], load: Load) -> AbstractContextManager[None]:
    """Run the writing workers and two classifying clients while the block runs."""
    return at_work([*(partial(worker.run, url) for worker in workers), load.run, load.run])


def all_ready(cluster: Engine) -> bool:
    """Whether every server is ready, and the load balancer forwards requests."""
    probe = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"
    for container in cluster.containers():
        cluster.docker("exec", container, "python", "-c", probe)
    return httpx.get(f"{cluster.url}/readyz", timeout=30, trust_env=False).status_code == 200


def settled(cluster: Engine) -> None:
    def ready() -> bool:
        try:
            return all_ready(cluster)
        except AssertionError:  # a failed probe
            return False

    wait_for("readiness of all servers", ready)


def holds(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.2)
    return True


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_cluster_survives_a_killed_server_and_a_stopped_database(cluster: Engine):
    images = [png_bytes(draw_character(seed)) for seed in range(12)]
    report, workers = Report(), [Worker(number, number, images, in_doubt=IN_DOUBT) for number in range(3)]
    began = time.monotonic()
    cluster.up()
    assert len(cluster.containers()) == SERVERS
    settled(cluster)
    with httpx.Client(base_url=cluster.url, timeout=60, trust_env=False) as client:
        answer = client.post("/enroll", data={"label": "stays"}, files={"image": ("x.png", images[0])})
        assert answer.status_code == 201, answer.text

        killed = Load(cluster.url, images[0])
        with under_load(cluster.url, workers, killed):
            time.sleep(3)
            victim = cluster.containers()[0]
            cluster.kill_hard(victim)
            time.sleep(5)
        wait_for("a restart", lambda: cluster.inspect(".RestartCount", victim) == 1)
        settled(cluster)
        for worker in workers:
            compare(cluster.url, worker, report, searches=2)

        away = Load(cluster.url, images[0])
        with under_load(cluster.url, workers, away):
            cluster.compose("stop", "database")
            time.sleep(2)
            refused = client.post("/enroll", data={"label": "lost"}, files={"image": ("x.png", images[1])})
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            wait_for("the servers' noticing", lambda: "Age" in classify(client, images[0]).headers)
            assert holds(lambda: int(classify(client, images[0]).headers["Age"]) >= 1, seconds=5)
            cluster.compose("start", "database")
            settled(cluster)
            time.sleep(2)
        for worker in workers:
            compare(cluster.url, worker, report, searches=2)
        wait_for("current answers", lambda: "Age" not in classify(client, images[0]).headers)
        assert client.delete("/classes/stays").status_code == 204
        compare_all(cluster.url, workers, report)
    report.add(workers, began)
    assert report.lost == []
    assert set(killed.answers) == {"classified"}, "every classification was answered, the killed server's by another"
    assert set(away.answers) == {"classified"}
    assert away.ages > 0
    assert [cluster.inspect(".RestartCount", each) for each in cluster.containers()].count(0) == SERVERS - 1
    record(
        "cluster",
        Proof(
            "Compose cluster (three servers, PostgreSQL, HAProxy) under load: a server killed, the database stopped",
            'make test ARGS="-m slow tests/test_cluster.py"',
            {
                "operations acknowledged": report.acknowledged,
                "classes compared": report.compared,
                "classifications": killed.answers.total() + away.answers.total(),
                "of these with Age": away.ages,
            },
            {"SIGKILL": 1, "database stopped and started": 1, "operations cut off": report.unanswered},
            len(report.lost),
            report.errors_5xx,
            ended="every classification answered; all servers ready again; every class as acknowledged",
        ),
    )
