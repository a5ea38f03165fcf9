"""Enrolments that are retried while servers are killed: each is done exactly once."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testing.processes import Server
from testing.served import make_settings, running

_KILLS = 6
_CLIENTS = 3


class Repeating:
    """Enrols shots into its own class, each with an idempotency key, and retries each until it is answered."""

    def __init__(self, image: bytes, number: int) -> None:
        self.label, self.acknowledged, self.repeated = f"c{number}", 0, 0
        self.url = ""
        self.stopping = threading.Event()
        self._image = image

    def run(self) -> None:
        while not self.stopping.is_set():
            self._enroll(f"{self.label}-{self.acknowledged}")
            self.acknowledged += 1

    def _enroll(self, key: str) -> None:
        data, headers = {"label": self.label, "on_conflict": "add"}, {"Idempotency-Key": key}
        while True:
            try:
                answer = httpx.post(
                    f"{self.url}/enroll",
                    data=data,
                    files={"image": ("x.png", self._image)},
                    headers=headers,
                    timeout=30,
                    trust_env=False,
                )
            except httpx.TransportError:
                self.repeated += 1
                time.sleep(0.02)
                continue
            assert answer.status_code in {200, 201, 503}, answer.text
            if answer.status_code != 503:
                assert answer.json()["class"]["shots"] == self.acknowledged + 1, "as the first time"
                return


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_enrolment_is_done_once_whenever_the_server_is_killed(tmp_path: Path, artifact: Path, images: list[bytes]):
    home, chance = tmp_path / "home", random.Random(7)
    clients = [Repeating(images[number], number) for number in range(_CLIENTS)]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        futures: list[Future[None]] = []
        for turn in range(_KILLS + 1):
            with Server(home, artifact) as server:
                for client in clients:
                    client.url = server.ready().url
                futures = futures or [pool.submit(client.run) for client in clients]
                time.sleep(chance.uniform(0.5, 2.0))
                if turn == _KILLS:
                    for client in clients:
                        client.stopping.set()
                    for future in futures:
                        future.result(60)
                server.kill()
    assert sum(client.acknowledged for client in clients) > 20
    assert sum(client.repeated for client in clients) > 0
    with running(make_settings(model=artifact, home=home)) as again:
        for client in clients:
            assert again.client.get(f"/classes/{client.label}").json()["shots"] == client.acknowledged
