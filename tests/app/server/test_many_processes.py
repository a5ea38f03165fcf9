"""Several workers and servers on one data folder: every process answers with what another acknowledged."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import cli
from testing.processes import ONESHOT, Server, enroll, process_of


@contextmanager
def two_workers(home: Path, artifact: Path, keys: str = "off") -> Iterator[list[httpx.Client]]:
    """A connection to each of a server's two workers."""
    with ExitStack() as opened, Server(home, artifact, "--workers", "2", ONESHOT_API_KEYS=keys) as server:
        server.ready(workers=2)
        found: dict[int, httpx.Client] = {}
        deadline = time.monotonic() + 60
        while len(found) < 2:
            assert time.monotonic() < deadline, "only one worker ever answers"
            # an idle worker accepts every single connection; many at once reach both
            clients = [opened.enter_context(httpx.Client(base_url=server.url, timeout=30)) for _ in range(40)]
            with ThreadPoolExecutor(40) as threads:
                found |= zip(threads.map(process_of, clients), clients, strict=True)
        yield list(found.values())
        assert server.stop() == 0


@contextmanager
def two_servers(home: Path, artifact: Path) -> Iterator[list[httpx.Client]]:
    with ExitStack() as opened:
        servers = [opened.enter_context(Server(home, artifact)) for _ in range(2)]
        yield [opened.enter_context(httpx.Client(base_url=each.ready().url, timeout=30)) for each in servers]


@pytest.mark.slow
@pytest.mark.parametrize("start", [two_workers, two_servers])
def test_what_one_process_acknowledged_the_other_answers_with(start, tmp_path: Path, artifact, images: list[bytes]):
    with start(tmp_path / "home", artifact) as [one, other]:
        for turn, (ours, theirs) in enumerate([(one, other), (other, one)] * 3):
            label, image = f"c{turn}", images[turn]
            assert enroll(ours, label, image).status_code == 201
            found = theirs.post("/classify?threshold=0", files={"image": ("x", image)}).json()
            assert (found["label"], found["gallery_size"]) == (label, turn + 1)
            assert theirs.get(f"/classes/{label}/image").content == image
        assert enroll(one, "c0", images[7]).status_code == 200
        found = other.post("/classify?threshold=0", files={"image": ("x", images[7])}).json()
        assert found["label"] == "c0"
        assert other.delete("/classes/c0").status_code == 204
        found = one.post("/classify?threshold=0", files={"image": ("x", images[7])}).json()
        assert "c0" not in [candidate["label"] for candidate in found["candidates"]]
        assert found["gallery_size"] == 5


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_orphans_end(tmp_path: Path, artifact, images: list[bytes]):
    with Server(tmp_path / "home", artifact, "--workers", "2") as server:
        server.ready(workers=2)
        first = children(server.process.pid)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        wait_for(lambda: len(children(server.process.pid)) == 2 and first[0] not in children(server.process.pid))
        server.ready(workers=3)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            assert enroll(client, "a", images[0]).status_code == 201
        last = children(server.process.pid)
        server.process.kill()
        wait_for(lambda: not any(alive(pid) for pid in last))


def metric(client: httpx.Client, name: str, **headers: str) -> dict[str, float]:
    """The values of all series of this metric, by labels."""
    lines = client.get("/metrics", headers=headers).text.splitlines()
    rows = (line.rpartition(" ") for line in lines if re.match(rf"{name}[{{ ]", line))
    return {series.removeprefix(name): float(value) for series, _, value in rows}


@pytest.mark.slow
def test_metrics_are_of_all_workers_whichever_answers(tmp_path: Path, artifact, images: list[bytes]):
    home = tmp_path / "home"
    with two_workers(home, artifact) as clients:
        pids = [process_of(client) for client in clients]
        assert len(set(pids)) == 2
        for number, client in enumerate(clients):
            assert enroll(client, f"c{number}", images[number]).status_code == 201
            for _ in range(5 + number):
                client.post("/classify?threshold=0", files={"image": ("x", images[0])})
        for client in clients:
            assert metric(client, "oneshot_classifications_total") == {'{outcome="known"}': 11}
            assert metric(client, "oneshot_inference_seconds_count") == {"": 13}
            assert metric(client, "oneshot_gallery_classes") == {"": 2}
            assert metric(client, "oneshot_queue_depth_images") == {"": 0}
            assert set(metric(client, "process_resident_memory_bytes")) == {f'{{pid="{pid}"}}' for pid in pids}
            assert list(metric(client, "oneshot_info").values()) == [1]
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda: not alive(pids[0]))
        wait_for(lambda: f'{{pid="{pids[0]}"}}' not in metric(clients[1], "process_open_fds"))
        assert metric(clients[1], "oneshot_classifications_total") == {'{outcome="known"}': 11}, "what it counted stays"


@pytest.mark.slow
def test_a_key_has_one_rate_and_one_concurrency_over_all_workers(tmp_path: Path, artifact):
    home = tmp_path / "home"
    words = ["create", "x", "--scope", "read", "--rate", "12/hour", "--concurrency", "1", "--home", str(home)]
    key = CliRunner().invoke(cli, ["keys", *words]).stdout.strip()
    with two_workers(home, artifact, keys="on") as clients:
        host, port = clients[0].base_url.host, clients[0].base_url.port
        with socket.create_connection((host, port or 0), timeout=10) as slow:  # keeps one of the two busy
            head = f"POST /classify HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Type: image/png"
            slow.sendall(f"{head}\r\nContent-Length: 900\r\n\r\nabc".encode())
            time.sleep(0.5)
            for client in clients:
                answer = client.get("/model", headers={"X-API-Key": key})
                assert answer.status_code == 429
                assert "1 requests running" in answer.json()["detail"]
        time.sleep(0.5)
        answers = [clients[turn % 2].get("/model", headers={"X-API-Key": key}) for turn in range(20)]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [200] * 11 + [429] * 9, "and the one that was cut off"


@pytest.mark.slow
def test_workers_that_cannot_start_stop_the_server(tmp_path: Path):
    command = [str(ONESHOT), "serve", "--port", "0", "--workers", "2", "--home", "home", "--model", "nowhere"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert set(ran.stderr.splitlines()) == {ran.stderr.splitlines()[0]}
    assert "nowhere" in ran.stderr


def children(pid: int) -> list[int]:
    """The workers: the server's child processes, without multiprocessing's helper."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in pids if "spawn_main" in Path(f"/proc/{each}/cmdline").read_text()]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
