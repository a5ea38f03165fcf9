"""Parts of the peers benchmark: the load reports its outcomes, and the page its measurements."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers.bundles import table
from benchmarks.peers.contestants import Running, _processes_of, _stat, _stop, contestants
from benchmarks.peers.material import photo
from benchmarks.peers.openloop import drive
from benchmarks.peers.report import page


async def _serve(ready: threading.Event, address: list[int], stop: threading.Event) -> None:
    """Answer requests with 200, and every fourth with 503."""
    asked = itertools.count(1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(head.partition("Content-Length:")[2].split("\r\n")[0]))
                refused = next(asked) % 4 == 0
                status = "503 Busy\r\nRetry-After: 1" if refused else "200 OK"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address.append(server.sockets[0].getsockname()[1])
    ready.set()
    while not stop.is_set():  # noqa: ASYNC110 - set by another thread
        await asyncio.sleep(0.02)
    server.close()


@pytest.fixture
def server():
    ready, stop = threading.Event(), threading.Event()
    address: list[int] = []
    thread = threading.Thread(target=lambda: asyncio.run(_serve(ready, address, stop)))
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{address[0]}"
    stop.set()
    thread.join()


def test_an_open_loop_counts_what_becomes_of_each_request(server):
    outcome = drive(server, [b"x" * 100, b"y"], rate=100, seconds=1)
    assert outcome.sent == 100
    assert outcome.answered + outcome.refused == 100
    assert outcome.refused == outcome.refused_with_retry_after == 25
    assert outcome.other == 0
    assert outcome.goodput == 75
    assert 0 < outcome.p50 <= outcome.p99


def test_a_photograph_is_a_jpeg_of_a_megapixel():
    data = photo(np.random.default_rng(0))
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert 1_000_000 < image.width * image.height < 1_100_000
    assert 100_000 < len(data) < 1_000_000


def test_contestants_have_names_of_their_own():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        names = [each.name for each in contestants(probe.getsockname()[1], 2)]
    assert len(set(names)) == len(names)
    assert "mosec" in names


def look(contestant: str, round_: int, rate: float) -> dict[str, object]:
    fixed = {"material": "queries", "connections": 64, "p50": 2.0, "p99": 3.0, "cpu": 1.0, "memory": 100.0}
    return {"contestant": contestant, "round": round_, "rate": rate, "failures": 0, **fixed}


def test_the_page_gives_medians_of_ratios_within_rounds():
    looks = [look("oneshot, raw bodies", n, rate) for n, rate in ((1, 100.0), (2, 300.0), (3, 200.0))]
    looks += [look("mosec", n, rate) for n, rate in ((1, 50.0), (2, 100.0), (3, 200.0))]
    facts = dict.fromkeys(("cpu", "python", "oneshot", "openvino", "date", "load", "busy"), "told")
    record = {"looks": looks, "open_loop": [], "starts": [], "failed": {"Ray": "no"}, "facts": {**facts, "peers": {}}}
    text = page(record)
    assert "| mosec | 100 (50 to 200) | 2.00 |" in text
    assert "| oneshot, raw bodies | 200 (100 to 300) |  |" in text
    assert "Ray did not run: `no`" in text


def test_the_page_compares_bundles_with_the_network_alone():
    found = [("oneshot, /embed", 1, 900.0), ("oneshot, /embed", 2, 600.0), ("torch", 1, 300.0), ("torch", 2, 300.0)]
    lines = table([{"name": name, "round": round_, "rate": rate} for name, round_, rate in found])
    assert lines[-2:] == ["| oneshot, /embed | 750 |  |", "| the network alone, torch | 300 | 250 % |"]
    assert table([]) == []


_CHILD = "import time; print('up', flush=True); time.sleep(60)"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}], start_new_session=True)"


def test_a_peers_process_in_a_session_of_its_own_is_counted_and_ended():
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        found = _processes_of(parent.pid)
        assert len(found) == 2
        assert Running(parent, "", 0.0).usage().cpu > 0
        _stop(parent)
        assert parent.returncode is not None
    [child] = found.keys() - {parent.pid}
    end = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError):  # the process is gone
        while _stat(child)[0] != "Z":
            assert time.monotonic() < end
            time.sleep(0.01)
