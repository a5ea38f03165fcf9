"""Faults under a real server: a full disk, an unwritable folder, damage."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from testing.processes import ONESHOT, Server, enroll
from testing.served import assert_problem

pytestmark = pytest.mark.slow
#: Enough for a deletion and for a checkpoint of the write-ahead log.
_RESERVE = str(6 * 2**20)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting needs rights that this user has not")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(tmp_path: Path, artifact, images: list[bytes]):
    with small_disk(tmp_path / "disk", "12m") as disk:
        with (
            Server(disk / "home", artifact, ONESHOT_RESERVE_BYTES=_RESERVE) as server,
            httpx.Client(timeout=60) as client,
        ):
            client.base_url = httpx.URL(server.ready().url)
            kept: list[str] = []
            padding = os.urandom(60_000)
            for number in range(200):
                answer = enroll(client, f"c{number}", images[number % 8] + padding)
                if answer.status_code != 201:
                    break
                kept.append(f"c{number}")
            assert_problem(answer, 503, "store-unavailable")
            assert len(kept) > 5
            assert client.post("/classify?threshold=0", files={"image": ("x", images[3])}).json()["label"]
            for label in kept[:5]:
                assert client.delete(f"/classes/{label}").status_code == 204
            listed = [each["label"] for each in client.get("/classes?limit=1000").json()["classes"]]
            assert set(listed) == set(kept[5:])
            server.kill()
        with Server(disk / "home", artifact, ONESHOT_RESERVE_BYTES=_RESERVE) as server:
            listed = [each["label"] for each in httpx.get(f"{server.ready().url}/classes?limit=1000").json()["classes"]]
            assert set(listed) == set(kept[5:])


def line_of_failure(home: Path, artifact: Path) -> str:
    command = [str(ONESHOT), "serve", "--port", "0", "--home", str(home), "--model", str(artifact)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 2, ran.stderr
    [line] = ran.stderr.splitlines()
    return line


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path, artifact):
    with small_disk(tmp_path / "disk", "3m") as disk:
        (disk / "home").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        line = line_of_failure(disk / "home", artifact)
    assert "ONESHOT_HOME" in line
    assert "Read-only" in line


def test_a_damaged_database_stops_the_start_or_is_told(tmp_path: Path, artifact, images: list[bytes]):
    home = tmp_path / "home"
    with Server(home, artifact) as server, httpx.Client(timeout=60) as client:
        client.base_url = httpx.URL(server.ready().url)
        for number in range(40):
            assert enroll(client, f"c{number}", images[number % 8] + os.urandom(3000)).status_code == 201
        assert server.stop() == 0
    content = (home / "oneshot.db").read_bytes()
    (home / "oneshot.db").write_bytes(content[:8192] + os.urandom(len(content) - 8192))
    line = line_of_failure(home, artifact)
    assert "oneshot.db" in line
    assert "damaged" in line
