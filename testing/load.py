"""Clients that send requests continuously and count the outcomes."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter

import httpx


class Load:
    """Threads that classify and enrol: half over a keep-alive connection, half over a new one per request.

    `outcomes` counts `answered` (200, 201), `turned away` (connection refused, or a 503), `lost` (sent without an
    answer) and any other status. `enrolled` holds the acknowledged labels.
    """

    def __init__(self, url: str, image: bytes, clients: int = 6) -> None:
        self.outcomes: Counter[str] = Counter()
        self.enrolled: list[str] = []
        self.details: list[str] = []
        self._url, self._image = url, image
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int, seconds: float = 90) -> None:
        """Wait until this many requests were answered."""
        deadline = time.monotonic() + seconds
        while self.outcomes["answered"] < answers:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.01)

    def _work(self, worker: int) -> None:
        if worker % 2:
            with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
                self._ask(client, worker)
        while not self._stopped.is_set():
            with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
                self._one(client, f"w{worker}-{time.monotonic_ns()}")

    def _ask(self, client: httpx.Client, worker: int) -> None:
        for number in itertools.count():
            if self._stopped.is_set():
                return
            self._one(client, f"w{worker}-{number}")

    def _one(self, client: httpx.Client, label: str) -> None:
        files, enrolling = {"image": ("x.png", self._image)}, hash(label) % 4 == 0
        try:
            if enrolling:
                status = client.post("/enroll", data={"label": label}, files=files).status_code
            else:
                status = client.post("/classify", files=files).status_code
        except httpx.ConnectError:
            self._count("turned away")
            time.sleep(0.02)
        except httpx.TransportError as error:
            self._count("lost", repr(error))
        else:
            outcome = {200: "answered", 201: "answered", 503: "turned away"}.get(status, str(status))
            self._count(outcome, enrolled=label if enrolling and outcome == "answered" else None)

    def _count(self, outcome: str, detail: str = "", enrolled: str | None = None) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            self.details += [detail] if detail else []
            self.enrolled += [enrolled] if enrolled else []
