"""The real service on a real socket: uvicorn in a thread, a small real artefact, a home folder of its own."""

from __future__ import annotations

import inspect
import os
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

from app.connections import guarded
from app.main import create_app
from app.service import Service
from app.settings import PREFIX, READ_ELSEWHERE, Settings
from app.store import SqlStore
from model.manifest import SimilarityKind
from tests.app.postgres import Postgres, missing
from tests.app.store.helpers import ODD_LABELS, put_new_store
from tests.factories import draw_character, make_artifact, png_bytes


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


Serve = Callable[..., Running]


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    outside = {name: os.environ.pop(name) for name in list(os.environ) if _is_setting(name)}
    yield
    os.environ.update(outside)


def _is_setting(name: str) -> bool:
    return name.upper().startswith(PREFIX) and name.upper() not in READ_ELSEWHERE


@pytest.fixture(scope="session")
def artifact_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SimilarityKind], Path]:
    made: dict[SimilarityKind, Path] = {}

    def artifact(kind: SimilarityKind) -> Path:
        if kind not in made:
            made[kind] = make_artifact(tmp_path_factory.mktemp("artifact") / kind, kind)
        return made[kind]

    return artifact


@pytest.fixture(scope="session")
def artifact(artifact_of: Callable[[SimilarityKind], Path]) -> Path:
    return artifact_of("cosine")


@contextmanager
def running(
    settings: Settings, prepare: Callable[[FastAPI], None] = lambda _app: None, *, wait: bool = False
) -> Iterator[Running]:
    app = create_app(settings, wait=wait)
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


@pytest.fixture(scope="module")
def served(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for a file of tests; each test enrols into a gallery of its own."""
    with running(make_settings(model=artifact, home=tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture
def serve(artifact: Path, tmp_path: Path) -> Callable[..., Any]:
    """Starts a fresh service with the settings given."""

    def start(**changes: Any) -> Any:
        return running(make_settings(**{"model": artifact, "home": tmp_path / "home", **changes}))

    return start


@pytest.fixture
def gallery(request: pytest.FixtureRequest) -> str:
    """A gallery's name that no other test uses."""
    return f"g{abs(hash(request.node.nodeid)):x}"


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """PNG files of different characters."""
    return [png_bytes(draw_character(seed)) for seed in range(8)]


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check the one shape of every error, and return its body."""
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; a test that asks for it is skipped where there can be none."""
    if why := missing():
        pytest.skip(why)
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A new store on it."""
    url = postgres.new_store()
    yield url
    postgres.drop(url)


Where = Path | str


def on_both_stores(metafunc: pytest.Metafunc) -> None:
    """As the hook `pytest_generate_tests` of a module or folder: its tests of a store run on SQLite and on PostgreSQL.

    One that asks for the file's `path` is about SQLite.
    """
    if "where" in metafunc.fixturenames and "path" not in inspect.signature(metafunc.function).parameters:
        metafunc.parametrize("where", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def where(request: pytest.FixtureRequest) -> Where:
    """Where a new store is: what `SqlStore` opens. On SQLite, but for tests that are generated for both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return put_new_store(request.getfixturevalue("path"))
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(where: Where) -> Iterator[SqlStore]:
    opened = SqlStore(where)
    yield opened
    opened.close()


@pytest.fixture
def odd_labels(where: Where) -> list[str]:
    """Labels that careless code confuses; PostgreSQL has no text with U+0000, which the service refuses anyway."""
    return [label for label in ODD_LABELS if "\0" not in label or not isinstance(where, str)]
