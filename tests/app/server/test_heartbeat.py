"""Hung workers are killed and replaced, unless the supervisor itself was stopped meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.server.heartbeat import BEAT_SECONDS, Heart, Watch
from testing.postgres import children
from testing.processes import Server, enroll

CONTEXT = multiprocessing.get_context("spawn")


def beat_once(heart: Heart) -> None:
    asyncio.run(begin(heart))


async def begin(heart: Heart) -> None:
    heart.beat(asyncio.get_running_loop())


def test_a_heart_beats_while_the_loop_turns_and_not_while_it_hangs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.server.heartbeat.BEAT_SECONDS", 0.01)
    heart = Heart(CONTEXT)
    assert heart.last is None

    async def main() -> None:
        await begin(heart)
        first = heart.last
        async with asyncio.timeout(10):
            while heart.last == first:  # noqa: ASYNC110 - waits for the event loop's next turn
                await asyncio.sleep(0.01)
        before = heart.last
        time.sleep(0.1)  # noqa: ASYNC251 - blocks the event loop on purpose
        assert heart.last == before

    asyncio.run(main())


def test_a_heart_is_shared_with_the_process_that_it_beats_in():
    heart, began = Heart(CONTEXT), time.monotonic()
    process = CONTEXT.Process(target=beat_once, args=(heart,))
    process.start()
    process.join(60)
    assert heart.last is not None
    assert began < heart.last < time.monotonic()


def test_time_in_which_nobody_looked_does_not_count(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("app.server.heartbeat.time.monotonic", lambda: now)
    watch = Watch(longest_gap=5)
    for now in (101.0, 104.0, 108.0):  # noqa: B007 - read by the clock above
        watch.look()
    assert watch.silent(100.0) == 8
    assert watch.silent(107.5) == 0.5
    now = 1000.0  # the supervisor was stopped
    watch.look()
    assert watch.silent(100.0) == 0
    now = 1003.0
    watch.look()
    assert watch.silent(100.0) == 3
    assert BEAT_SECONDS < 2, "the least ONESHOT_WORKER_TIMEOUT"


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers(server: Server) -> list[int]:
    """The workers' processes: the spawned children, without multiprocessing's helper."""
    found = children(server.process.pid)
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stopped_worker_is_replaced(tmp_path: Path, artifact: Path, images: list[bytes]):
    with Server(tmp_path / "home", artifact, "--workers", "2", ONESHOT_WORKER_TIMEOUT="4") as server:
        server.ready(workers=2)
        stopped = workers(server)[0]
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: stopped not in workers(server) and len(workers(server)) == 2)
        server.ready(workers=3)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for number in range(20):
                assert enroll(client, f"c{number}", images[0]).status_code == 201
        assert any(f"worker {stopped} has given no sign of life" in line for line in server.lines)
        assert server.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_that_are_stopped_with_their_supervisor_stay(tmp_path: Path, artifact: Path):
    with Server(tmp_path / "home", artifact, "--workers", "2", ONESHOT_WORKER_TIMEOUT="8") as server:
        server.ready(workers=2)
        before = workers(server)
        os.killpg(server.process.pid, signal.SIGSTOP)
        time.sleep(10)
        os.killpg(server.process.pid, signal.SIGCONT)
        time.sleep(6)
        assert workers(server) == before
        assert httpx.get(f"{server.url}/readyz", timeout=30).status_code == 200
        assert server.stop() == 0
