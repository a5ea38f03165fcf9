"""Fixtures: the real service on a real socket (uvicorn in a thread), a small artefact, a home folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.pace import PACE, Pace
from app.settings import PREFIX, READ_ELSEWHERE
from app.store import SqlStore
from model.embedder import Embedder
from model.manifest import SimilarityKind
from testing.factories import draw_character, make_artifact, png_bytes
from testing.forward import Forward
from testing.postgres import Postgres, missing
from testing.served import Running, Where, make_settings, running
from testing.stores import ODD_LABELS, put_new_store


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> Iterator[None]:
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


@pytest.fixture(scope="module")
def served(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service per test module; each test enrols into a gallery of its own."""
    with running(make_settings(model=artifact, home=tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Forward:
    """The forward pass of services started after this."""
    placed = Forward()
    monkeypatch.setattr(Embedder, "embed", placed.around(Embedder.embed))
    return placed


@pytest.fixture
def serve(artifact: Path, tmp_path: Path) -> Callable[..., Any]:
    """Starts a new service with the given settings."""

    def start(pace: Pace = PACE, **changes: Any) -> Any:
        return running(make_settings(**{"model": artifact, "home": tmp_path / "home", **changes}), pace=pace)

    return start


@pytest.fixture
def gallery(request: pytest.FixtureRequest) -> str:
    """A gallery name that no other test uses."""
    return f"g{abs(hash(request.node.nodeid)):x}"


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """PNG files of different characters."""
    return [png_bytes(draw_character(seed)) for seed in range(8)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; tests that use it are skipped if it is not installed."""
    if why := missing():
        pytest.skip(why)
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a new store on the PostgreSQL server."""
    url = postgres.new_store()
    yield url
    postgres.drop(url)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def where(request: pytest.FixtureRequest) -> Where:
    """The location of a new store, for `SqlStore`. SQLite, except in tests generated for both databases."""
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
    """Labels that careless code confuses. PostgreSQL text cannot contain U+0000, which the service refuses anyway."""
    return [label for label in ODD_LABELS if "\0" not in label or not isinstance(where, str)]
