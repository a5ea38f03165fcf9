"""The real service on a real socket: uvicorn in a thread of this process."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.api.application import create_app
from app.pace import PACE, Pace
from app.server.connections import guarded
from app.service.service import Service
from app.settings import Settings

Where = Path | str


class Running:
    """A served application and a client for it."""

    def __init__(self, app: FastAPI, url: str) -> None:
        self.app = app
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=30)

    @property
    def service(self) -> Service:
        service = self.app.state.service
        assert isinstance(service, Service)
        return service

    def enroll(self, label: str, image: bytes, **fields: str) -> httpx.Response:
        return self.client.post("/enroll", data={"label": label, **fields}, files={"image": ("x.png", image)})

    def classify(self, image: bytes, **query: Any) -> httpx.Response:
        return self.client.post("/classify", params=query, files={"image": ("x.png", image)})

    def metric(self, name: str) -> float:
        """The value of one line of /metrics, by its name with labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)


@contextmanager
def running(
    settings: Settings, prepare: Callable[[FastAPI], None] = lambda _app: None, *, wait: bool = False, pace: Pace = PACE
) -> Iterator[Running]:
    app = create_app(settings, wait=wait, pace=pace)
    prepare(app)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections = guarded(settings)
        config = uvicorn.Config(app, http=connections, log_config=None, access_log=False, lifespan="on", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        served = Running(app, f"http://127.0.0.1:{listening.getsockname()[1]}")
        try:
            with served.client:
                yield served
        finally:
            server.should_exit = True
            thread.join()


def make_settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **{"device": "cpu", "threads": 1, "reserve_bytes": 65_536, **changes})  # type: ignore[call-arg]


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check that an error has the format of all errors, and return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:oneshot:problem:{slug}", body
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body) <= {"type", "title", "status", "detail", "instance", "request_id", "errors"}
    return body


def on_both_stores(metafunc: pytest.Metafunc) -> None:
    """A `pytest_generate_tests` hook that runs a module's or folder's store tests on SQLite and on PostgreSQL.

    A test that takes the file's `path` runs on SQLite only.
    """
    if "where" in metafunc.fixturenames and "path" not in inspect.signature(metafunc.function).parameters:
        metafunc.parametrize("where", ["sqlite", "postgres"], indirect=True)
