"""`oneshot serve` as a separate process with workers, for tests that kill, restart or share it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

#: Resource limits of a server under test.
_FRUGAL = {"OMP_NUM_THREADS": "1", "ONESHOT_THREADS": "1", "ONESHOT_RESERVE_BYTES": "65536"}
ONESHOT = Path(sys.executable).with_name("oneshot")


class Server:
    """A started server in a process group of its own, so that all its processes can be killed at once."""

    def __init__(
        self, home: Path, artifact: Path | None, *options: str, command: list[str] | None = None, **variables: str
    ) -> None:
        command = command or [str(ONESHOT), "serve", "--port", "0", "--device", "cpu"]
        command = [*command, "--home", str(home), *options]
        if artifact is not None:
            command += ["--model", str(artifact)]
        self.process = subprocess.Popen(
            command,
            cwd=home.parent,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "ONESHOT_THREADS": "1",
                "ONESHOT_RESERVE_BYTES": "65536",
                **variables,
            },
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.url = ""
        self.lines: list[str] = []
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("{") and (url := json.loads(line).get("url")):
                self.url = url
                self._started.set()
        self._started.set()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def ready(self, workers: int = 1) -> Server:
        """Wait until all workers have started and the server is ready."""
        deadline = time.monotonic() + 180  # a busy machine takes long to load torch
        while sum(entry["event"] == "started" for entry in self.log) < workers:
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.01)
        while httpx.get(f"{self.url}/readyz", timeout=30).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Stop it with SIGTERM, as a supervisor does, and return the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._reader.join(5)  # all processes have exited, so the pipe is at its end
        if self.process.stderr is not None and not self._reader.is_alive():
            self.process.stderr.close()


def enroll(client: httpx.Client, label: str, image: bytes, **fields: str) -> httpx.Response:
    """Enrol one image."""
    return client.post("/enroll", data={"label": label, **fields}, files={"image": ("x.png", image)})


def process_of(client: httpx.Client) -> int:
    """The process that serves this keep-alive connection: the owner of the other end of its socket."""
    stream = client.get("/livez").extensions["network_stream"]
    here, there = (f":{stream.get_extra_info(name)[1]:04X}" for name in ("client_addr", "server_addr"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    # the table may change while it is read, so a row can appear twice; a closing socket has inode 0
    [inode] = {row[9] for row in rows if row[1].endswith(there) and row[2].endswith(here)} - {"0"}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise LookupError(inode)
