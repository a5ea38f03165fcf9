"""A start while the database is down: live, not ready, bounded; and workers replaced in the meantime."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.errors import StartupError, StoreUnavailableError
from app.service import await_store as waiting
from testing.postgres import Postgres, children, missing
from testing.processes import Server, enroll
from testing.served import assert_problem, make_settings, running

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture
def away() -> Iterator[tuple[Postgres, str]]:
    """A stopped database server, and the URL of a store on it."""
    with Postgres() as server:
        url = server.new_store()
        server.stop()
        yield server, url


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/readyz").status_code == 200
    return False


def test_pauses_double_up_to_the_longest_and_end(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr("app.service.await_store.time.monotonic", lambda: now)
    found = []
    for pause in waiting.pauses():
        found.append(pause)
        now += pause
    assert found[:6] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(found[5:]) == {5.0}
    assert waiting.PATIENCE_S <= sum(found) < waiting.PATIENCE_S + 5


def test_only_a_store_that_is_away_is_waited_for():
    error = StartupError("x")
    assert not waiting.is_away(error)
    error.__cause__ = StoreUnavailableError("y")
    assert waiting.is_away(error)


def test_it_is_live_and_not_ready_until_the_database_is_there(
    away: tuple[Postgres, str], artifact: Path, tmp_path: Path, images: list[bytes]
):
    database, url = away
    settings = make_settings(model=artifact, home=tmp_path, store=url)
    with running(settings, wait=True) as server:
        assert server.client.get("/livez").status_code == 200
        assert server.client.get("/").status_code == 200
        for answer in (
            server.client.get("/readyz"),
            server.client.get("/classes"),
            server.client.get("/metrics"),
            server.enroll("a", images[0]),
            server.classify(images[0]),
        ):
            assert_problem(answer, 503, "not-ready")
            assert answer.headers["Retry-After"]
        database.start()
        wait_until(lambda: is_ready(server.client))
        assert server.enroll("a", images[0]).status_code == 201
        assert server.classify(images[0]).json()["candidates"][0]["label"] == "a"


def test_a_wait_ends_with_the_reason(
    away: tuple[Postgres, str], artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.5)
    with running(make_settings(model=artifact, home=tmp_path, store=away[1]), wait=True) as server:
        wait_until(lambda: server.app.state.lifecycle.failed is not None)
        assert server.app.state.startup_error.detail.startswith("Can't open the store postgresql://")


def test_what_is_wrong_when_the_database_has_come_ends_the_wait(
    away: tuple[Postgres, str], tmp_path: Path, artifact: Path
):
    database, url = away
    settings = make_settings(model=tmp_path / "nowhere", home=tmp_path / "home", store=url)
    with running(settings, wait=True) as server:
        database.start()
        wait_until(lambda: server.app.state.lifecycle.failed is not None)
        assert server.app.state.startup_error.detail.startswith("ONESHOT_MODEL: ")


def test_a_stop_does_not_wait(away: tuple[Postgres, str], artifact: Path, tmp_path: Path):
    with Server(tmp_path / "home", artifact, ONESHOT_STORE=away[1]) as server:
        wait_until(lambda: any(entry["event"] == "store_awaited" for entry in server.log))
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_come_up_with_the_database_and_none_that_is_replaced_ends_the_server(
    away: tuple[Postgres, str], artifact: Path, tmp_path: Path, images: list[bytes]
):
    database, url = away
    with Server(tmp_path / "home", artifact, "--workers", "2", ONESHOT_STORE=url) as server:
        wait_until(lambda: sum(entry["event"] == "store_awaited" for entry in server.log) >= 2)
        database.start()
        server.ready(workers=2)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            assert enroll(client, "a", images[0]).status_code == 201
        time.sleep(3)  # each worker polls the store every half second
        database.stop()
        os.kill(first_worker(server), signal.SIGKILL)
        wait_until(lambda: any("exit code 2; starting another" in line for line in server.lines))
        for _ in range(20):  # whichever worker takes the connection answers from its view
            found = httpx.post(f"{server.url}/classify", files={"image": ("x", images[0])}, timeout=60)
            assert found.json()["candidates"][0]["label"] == "a"
            assert int(found.headers["Age"]) >= 1
        database.start()
        wait_until(lambda: sum(entry["event"] == "started" for entry in server.log) == 3)
        assert server.stop() == 0


def first_worker(server: Server) -> int:
    """The worker that started first; the supervisor's resource tracker, also a child, is skipped."""
    return min(
        child for child in children(server.process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
