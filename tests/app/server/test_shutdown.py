"""Shutdown: graceful on SIGTERM with nothing lost, and on its own initiative when the service cannot continue."""

from __future__ import annotations

import resource
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.pace import Pace
from app.server.listener import let_nobody_in
from model.distances import Vectors
from model.preprocess import Prepared
from testing.forward import Embed, Forward
from testing.load import Load
from testing.processes import Server, enroll
from testing.proofs import Proof, record
from testing.served import assert_problem, make_settings, running


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "options", [pytest.param((), id="one"), pytest.param(("--workers", "2"), id="two", marks=pytest.mark.slow)]
)
def test_sigterm_under_load_loses_no_answer(tmp_path: Path, artifact: Path, images: list[bytes], options):
    home = tmp_path / "home"
    with Server(home, artifact, *options) as server, Load(server.ready(len(options) or 1).url, images[0]) as load:
        load.wait_for(100)
        assert server.stop() == 0
        time.sleep(0.2)  # some requests come too late
    assert load.outcomes["lost"] == 0, (load.outcomes, load.details)
    assert set(load.outcomes) <= {"answered", "turned away", "lost"}
    assert load.outcomes["turned away"] > 0
    with running(make_settings(model=artifact, home=home)) as again:
        kept = {item["label"] for item in again.client.get("/classes", params={"limit": 1000}).json()["classes"]}
        assert kept >= set(load.enrolled)
    record(
        f"SIGTERM under load {len(options) or 1}",
        Proof(
            f"SIGTERM under load, {'two workers' if options else 'one process'}",
            "make test ARGS=\"-m 'slow or not slow' tests/app/server/test_shutdown.py\"",
            {"answers": load.outcomes["answered"], "enrolments of these": len(load.enrolled)},
            {"SIGTERM": 1, "requests turned away": load.outcomes["turned away"]},
            load.outcomes["lost"] + len(set(load.enrolled) - kept),
            0,
            ended="exit code 0; every enrolment there after the restart",
        ),
    )


def test_who_waits_at_the_door_is_let_in_and_nobody_else():
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as early,
    ):
        let_nobody_in(listening)
        with pytest.raises(TimeoutError):
            socket.create_connection(listening.getsockname(), timeout=0.3)
        early.sendall(b"hello")
        with listening.accept()[0] as accepted:
            assert accepted.recv(9) == b"hello"
            accepted.sendall(b"well")
            assert early.recv(9) == b"well", "an accepted connection goes on"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_an_idle_server_ends_at_once_and_orderly(tmp_path: Path, artifact: Path):
    with Server(tmp_path / "home", artifact) as server, httpx.Client(base_url=server.ready().url) as client:
        client.get("/livez")  # leaves a keep-alive connection open
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
    assert not any(entry["level"] == "error" for entry in server.log)


def test_a_signal_during_the_start_ends_it_orderly(tmp_path: Path, artifact: Path):
    with Server(tmp_path / "home", artifact) as server:
        time.sleep(1.0)  # Python has started, and torch is loading
        assert server.stop() in {0, -signal.SIGTERM}, "".join(server.lines)


def test_what_takes_longer_than_the_limit_is_told_so(tmp_path: Path, artifact: Path):
    with Server(tmp_path / "home", artifact, "--shutdown-timeout", "1") as server:
        host, port = server.ready().url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as sender:
            sender.sendall(
                b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\na"
            )
            time.sleep(0.2)
            assert server.stop() == 0
            answer = sender.recv(4000)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"urn:oneshot:problem:not-ready" in answer
    assert b"connection: close" in answer.lower()


# Ends the network's thread by an exception that `except Exception` does not catch, like a library bug.
DYING = """
from model.embedder import Embedder
embed, calls = Embedder.embed, []
def dying(self, batch):
    calls.append(1)
    if len(calls) > 3:  # two to warm up, one to serve
        raise SystemExit("gone")
    return embed(self, batch)
Embedder.embed = dying
from app.cli import main
main()
"""


_ENDLESS_DECODER = """
import time
from unittest.mock import patch
from app.cli import main
with patch("model.images.decode_image", lambda *_: time.sleep(600)):
    main()
"""


@pytest.mark.slow
def test_a_decoder_without_an_end_ends_with_the_process(tmp_path: Path, artifact: Path):
    command = [sys.executable, "-c", _ENDLESS_DECODER, "serve", "--port", "0", "--device", "cpu"]
    options = ("--shutdown-timeout", "2")
    with Server(tmp_path / "home", artifact, *options, command=command) as server, ThreadPoolExecutor() as pool:
        url = f"{server.ready().url}/classify"
        answer = pool.submit(httpx.post, url, files={"image": bytes(100_000)}, timeout=60)
        time.sleep(1)  # decoding has begun
        began = time.monotonic()
        assert server.stop() == 1
        assert time.monotonic() - began < 15
        assert_problem(answer.result(), 503, "not-ready")
    assert server.log[-1]["event"] == "ended_hard"


def test_a_dead_worker_thread_ends_the_process(tmp_path: Path, artifact: Path, images: list[bytes]):
    command = [sys.executable, "-c", DYING, "serve", "--port", "0", "--device", "cpu", "--threads", "1"]
    with Server(tmp_path / "home", artifact, command=command) as server:
        with httpx.Client(base_url=server.ready().url, timeout=30) as client:
            assert enroll(client, "a", images[0]).status_code == 201
            assert_problem(enroll(client, "b", images[1]), 500, "inference-failed")
        assert server.process.wait(20) == 1
    assert any(entry["event"] == "worker_died" for entry in server.log)


def test_ready_is_false_while_draining_and_says_why(serve):
    with serve() as server:
        server.app.state.lifecycle.draining = True
        answer = server.client.get("/readyz")
        assert "shutting down" in assert_problem(answer, 503, "not-ready")["detail"]
        assert answer.headers["connection"] == "close"
        assert server.client.get("/livez").status_code == 200


def test_ready_is_false_when_the_store_is_gone(serve):
    with serve() as server:
        server.service.store.close()
        assert "written" in assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]


def test_ready_is_false_once_the_store_was_found_damaged(serve, images: list[bytes]):
    with serve() as server:
        server.enroll("a", images[0])
        assert server.client.get("/readyz").status_code == 200
        with server.service.store.database.write() as connection:
            connection.exec_driver_sql("UPDATE images SET checksum = checksum + 1")
        assert server.client.get("/readyz").status_code == 200, "nobody has seen it yet"
        assert_problem(server.client.get("/classes/a/image"), 500, "store-corrupt")
        for _ in range(2):
            assert "damaged" in assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]
        assert server.client.get("/livez").status_code == 200
        assert server.classify(images[0]).status_code == 200
    with serve() as server:  # a restart does not repair anything
        assert "damaged" in assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]
        assert server.client.delete("/classes/a").status_code == 204
    with serve(Pace(inspection_first=0.2)) as server:  # until everything was inspected without damage
        wait_for_ready(server.client, 200)


def test_damage_that_nobody_asks_for_is_found_in_the_background(serve, images: list[bytes]):
    with serve(Pace(inspection_first=0.2, inspection_every=0.05)) as server:
        server.enroll("a", images[0])
        assert server.client.get("/readyz").status_code == 200
        with server.service.store.database.write() as connection:
            connection.exec_driver_sql("UPDATE images SET checksum = checksum + 1")
        wait_for_ready(server.client, 503)
        assert "damaged" in assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]


def test_ready_is_false_when_its_probe_fails_as_nobody_expected(serve, monkeypatch):
    with serve(Pace(probe_freshness=0)) as server:
        assert server.client.get("/readyz").status_code == 200

        def fail() -> None:
            raise RuntimeError("a bug, and what the log only is to have")

        with monkeypatch.context() as patch:
            patch.setattr(server.service.store, "check_writable", fail)
            for _ in range(2):
                detail = assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]
                assert "the log says why" in detail
        assert server.client.get("/readyz").status_code == 200


def test_ready_is_false_when_its_probe_does_not_end(serve, monkeypatch):
    with serve(Pace(probe_freshness=0, probe_patience=0.05, store_silence=0.3)) as server:
        go = threading.Event()
        with monkeypatch.context() as patch:
            patch.setattr(server.service.store, "check_writable", lambda: go.wait(30))
            wait_for_ready(server.client, 503)
            assert "not answered" in assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]
        go.set()
        wait_for_ready(server.client, 200)


def test_ready_is_false_while_the_disk_is_full(tmp_path: Path, artifact: Path, images: list[bytes]):
    with Server(tmp_path / "home", artifact) as server, httpx.Client(base_url=server.ready().url, timeout=30) as client:
        assert enroll(client, "a", images[0]).status_code == 201
        no_limit = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        assert wait_for_ready(client, 503) == "urn:oneshot:problem:not-ready"
        assert_problem(enroll(client, "b", images[1]), 503, "store-unavailable")
        assert client.get("/livez").status_code == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, no_limit)
        wait_for_ready(client, 200)
        assert enroll(client, "b", images[1]).status_code == 201


def wait_for_ready(client: httpx.Client, status: int) -> str | None:
    deadline = time.monotonic() + 10
    while (answer := client.get("/readyz")).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kind: str | None = answer.json().get("type")
    return kind


def test_a_request_past_its_time_leaves_the_queue(serve, images: list[bytes], forward: Forward):
    with serve(request_timeout=0.4) as server:
        forward.instead = slowly
        answer = server.classify(images[0])
        assert_problem(answer, 504, "deadline-exceeded")
        assert server.service.batcher.depth == 0


def slowly(embed: Embed, batch: Prepared) -> Vectors:
    time.sleep(1.5)
    return embed(batch)
