"""The command, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.settings import Settings, option, variable

ONESHOT = Path(sys.executable).with_name("oneshot")


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **variables}


def fails(folder: Path, *options: str, **variables: str) -> str:
    """Run `oneshot serve`, which must exit with code 2 and one line on stderr; return the line."""
    done = subprocess.run(
        [ONESHOT, "serve", *options],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


class Process:
    """`oneshot serve` as a separate process on a free port, ready to answer."""

    def __init__(self, home: Path, artifact: Path, **variables: str) -> None:
        self.process = subprocess.Popen(
            [ONESHOT, "serve", "--port", "0", "--threads", "1", "--device", "cpu", "--model", artifact],
            cwd=home.parent,
            env=environment(ONESHOT_HOME=str(home), **variables),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict[str, Any]] = []

    def __enter__(self) -> Process:
        assert self.process.stderr is not None
        while not any(entry["event"] == "started" for entry in self.log):
            line = self.process.stderr.readline()
            assert line.startswith("{"), line + self.process.stderr.read()
            self.log.append(json.loads(line))
        self.url: str = self.log[-1]["url"]
        deadline = time.monotonic() + 30
        while httpx.get(f"{self.url}/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """Stop it with SIGTERM, as a supervisor does, and read the rest of its log."""
        self.process.terminate()
        self.log += [json.loads(line) for line in self.process.communicate(timeout=30)[1].splitlines()]


def enroll(url: str, label: str, image: bytes) -> httpx.Response:
    return httpx.post(f"{url}/enroll", data={"label": label}, files={"image": ("x.png", image)}, timeout=30)


def test_every_setting_is_an_option():
    text = CliRunner().invoke(cli, ["serve", "--help"], env={"COLUMNS": "200"}).output
    for name in Settings.model_fields:
        assert option(name) in text
        assert variable(name) in text


def test_help_imports_nothing_heavy():
    code = "import sys, app.cli; print([m for m in ('torch', 'faiss', 'fastapi', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["galleries", "list", "--local", "--home", "{home}"]])
def test_a_reader_may_leave_before_anything_is_written(words: list[str], tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)  # unlike `| head`, certainly gone by then
    try:
        done = subprocess.run(
            [ONESHOT, *(word.format(home=tmp_path / "data") for word in words)],
            env=environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_problem_keeps_its_exit_code_when_nobody_reads_it():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [ONESHOT, "classes", "list", "--url", "http://127.0.0.1:1"],
            env=environment(),
            stdout=writer,
            stderr=writer,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 2


def test_a_wrong_value_in_the_environment_stops_the_start(tmp_path: Path):
    line = fails(tmp_path, ONESHOT_PORT="abc")
    assert line == "oneshot: ONESHOT_PORT (--port) is 'abc'; allowed: a whole number from 0 to 65535"


def test_a_wrong_option_stops_the_start():
    done = CliRunner().invoke(cli, ["serve", "--log-level", "loud"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("oneshot: ONESHOT_LOG_LEVEL (--log-level) is 'loud'")
    assert done.stderr.count("\n") == 1


def test_a_taken_port_stops_the_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(cli, ["serve", "--port", str(port)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"ONESHOT_PORT={port}: can't listen there: Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_artefact_stops_the_start(tmp_path: Path):
    line = fails(tmp_path, "--port", "0", ONESHOT_MODEL=str(tmp_path / "nowhere"))
    assert line.startswith("oneshot: ONESHOT_MODEL: ")
    assert "nowhere" in line


def test_an_answered_enrolment_survives_sigkill_and_the_log_is_json(
    tmp_path: Path, artifact: Path, images: list[bytes]
):
    home = tmp_path / "home"
    with Process(home, artifact) as server:
        assert enroll(server.url, "kept", images[0]).status_code == 201
        server.process.send_signal(signal.SIGKILL)
        assert server.process.wait(10) == -signal.SIGKILL
    with Process(home, artifact, ONESHOT_MAX_BACH="3") as server:
        assert [item["label"] for item in httpx.get(f"{server.url}/classes").json()["classes"]] == ["kept"]
        assert httpx.get(f"{server.url}/classes/kept/image").content == images[0]
        found = httpx.post(f"{server.url}/classify", files={"image": ("x.png", images[0])}, timeout=30).json()
        assert found["label"] == "kept"
        assert found["candidates"][0]["distance"] == pytest.approx(0, abs=1e-5)
        httpx.get(f"{server.url}/model", headers={"X-Request-ID": "mine"})
        server.stop()
    check_log(server.log)


def check_log(log: list[dict[str, Any]]) -> None:
    """Check that a mistyped variable is reported, and that a request has an entry with its id."""
    [typo] = [entry for entry in log if entry["event"] == "unknown_setting"]
    assert (typo["level"], typo["variable"], typo["did_you_mean"]) == (
        "warning",
        "ONESHOT_MAX_BACH",
        "ONESHOT_MAX_BATCH",
    )
    [request] = [entry for entry in log if entry.get("request_id") == "mine"]
    assert (request["event"], request["method"], request["path"]) == ("request", "GET", "/model")
    assert request["status"] == 200
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", request["timestamp"])
