"""Writes whose request times out: the answer says whether the write was made."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.errors import StoreUnavailableError
from app.store import STORE_FILE, OnConflict, SqlStore
from testing.processes import Server, enroll
from testing.served import Running, assert_problem, make_settings, running
from testing.stores import support


def slow(server: Running, monkeypatch: pytest.MonkeyPatch, method: str, seconds: float) -> None:
    """Delay a write method of the store by `seconds`."""
    write = getattr(server.service.store, method)

    def wait_and_write(*arguments, **named):
        time.sleep(seconds)
        return write(*arguments, **named)

    monkeypatch.setattr(server.service.store, method, wait_and_write)


def shots(server: Running, label: str) -> int:
    found: int = server.client.get(f"/classes/{label}").json().get("shots", 0)
    return found


def test_an_enrolment_that_is_being_written_at_its_deadline_is_answered(serve, images: list[bytes], monkeypatch):
    with serve(request_timeout=0.5) as server:
        slow(server, monkeypatch, "enroll", 1.0)
        assert server.enroll("a", images[0], on_conflict="add").status_code == 201
        assert shots(server, "a") == 1


def test_what_takes_too_long_even_then_is_in_doubt(serve, images: list[bytes], monkeypatch):
    monkeypatch.setattr("app.concurrency.thread_pool.LAST_SECONDS", 0.05)
    with serve(request_timeout=0.5) as server:
        server.enroll("a", images[0])
        slow(server, monkeypatch, "enroll", 1.5)
        slow(server, monkeypatch, "remove_class", 1.5)
        assert_problem(server.enroll("b", images[1]), 504, "write-in-doubt")
        assert_problem(server.client.delete("/classes/a"), 504, "write-in-doubt")
        deadline = time.monotonic() + 20
        while not shots(server, "b") or shots(server, "a"):  # both writes complete in the end
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_waits_for_its_turn_at_its_deadline_is_not_done(serve, images: list[bytes], tmp_path: Path):
    with serve(request_timeout=0.5) as server, ThreadPoolExecutor(8) as pool:
        with locked(tmp_path / "home"):
            busy = [pool.submit(server.enroll, f"b{number}", images[1]) for number in range(8)]
            time.sleep(1.5)  # queued writes are cancelled by now; the started ones occupy all writing threads
            assert 0 < server.service.pools.writing.pending < 8
            assert_problem(server.enroll("a", images[0]), 504, "deadline-exceeded")
        wait(busy, 10)
        assert server.client.get("/classes/a").status_code == 404


def test_a_deletion_is_answered_as_done_also_when_the_index_fails(serve, images: list[bytes], monkeypatch):
    with serve() as server:
        server.enroll("a", images[0])

        def broken() -> None:
            raise StoreUnavailableError("gone")

        with monkeypatch.context() as patch:
            patch.setattr(server.service.index, "refresh", broken)
            assert server.client.delete("/classes/a").status_code == 204
        assert server.client.get("/classes/a").status_code == 404


def test_a_disk_that_fails_while_committing_leaves_a_doubt(serve, images: list[bytes], monkeypatch):
    with serve() as server:

        def fail(_transaction) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise sa.exc.OperationalError("COMMIT", {}, error)

        with monkeypatch.context() as patch:
            patch.setattr("sqlalchemy.RootTransaction.commit", fail)
            assert_problem(server.enroll("a", images[0]), 504, "write-in-doubt")
        assert server.enroll("a", images[0]).status_code == 201


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the store's write lock."""
    other = sqlite3.connect(home / STORE_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_an_enrolment_that_is_being_written_when_the_service_ends_is_answered(
    tmp_path: Path, artifact: Path, images: list[bytes]
):
    home = tmp_path / "home"
    with (
        Server(home, artifact, "--shutdown-timeout", "1") as server,
        httpx.Client(base_url=server.ready().url, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        assert enroll(client, "a", images[0]).status_code == 201
        with locked(home):
            answer = pool.submit(enroll, client, "a", images[1], on_conflict="add")
            time.sleep(0.5)
            server.process.terminate()
            time.sleep(4.0)  # longer than a drain without connections takes, and than its limit
            assert server.process.poll() is None
        assert server.process.wait(60) == 0
        answered = answer.result(10)
    assert answered.status_code == 200, answered.text
    with running(make_settings(model=artifact, home=home)) as again:
        assert shots(again, "a") == answered.json()["class"]["shots"] == 2


def test_a_store_that_was_closed_meanwhile_does_not_undo_a_deletion(store: SqlStore, monkeypatch):
    store.enroll("g", [support("a")], OnConflict.REPLACE)
    scrub = store.database.scrub

    def close_first() -> None:
        store.close()
        scrub()

    monkeypatch.setattr(store.database, "scrub", close_first)
    store.remove_class("g", "a")
