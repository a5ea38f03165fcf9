"""Each test of the store runs on SQLite and on PostgreSQL; one that asks for the file's `path` is about SQLite."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.store import SqlStore, postgres
from app.store.notices import _LOOK_SECONDS
from tests.app.store.helpers import ODD_LABELS, put_new_store

Where = Path | str


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "where" in metafunc.fixturenames:
        about_sqlite = "path" in inspect.signature(metafunc.function).parameters
        metafunc.parametrize("where", ["sqlite"] if about_sqlite else ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def where(request: pytest.FixtureRequest) -> Where:
    """Where a new store is: what `SqlStore` opens."""
    if request.param == "sqlite":
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


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it becomes true in that time: another process's commit is heard of a little later on PostgreSQL."""
    give_up = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < give_up:
        time.sleep(0.002)
    return found


def settle(*stores: SqlStore) -> None:
    """Wait until they have heard of all that was committed, and looked once more at the log's head."""
    if any(isinstance(store._database, postgres.Database) for store in stores):
        time.sleep(_LOOK_SECONDS + 0.2)
