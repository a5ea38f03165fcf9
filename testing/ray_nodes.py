"""A Ray cluster of several nodes on one machine: one raylet per node, each with its own address."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from testing.postgres import children

PORT = 6379
_START_SECONDS = 120.0
#: A dead node is noticed within two seconds instead of about fifteen.
_QUICK = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}


class Nodes:
    """A head node and others, without the dashboard and with little memory."""

    def __init__(self, folder: Path, cpus: float = 2) -> None:
        self.address = f"127.0.0.1:{PORT}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {**os.environ, **_QUICK, **token, "RAY_ADDRESS": self.address}
        self._folder, self._cpus = folder, cpus
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._number = 0
        self.add()

    def add(self) -> int:
        """Start a node and return its number; 0 is the head."""
        number, self._number = self._number, self._number + 1
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus", str(self._cpus)]
        command += ["--node-ip-address", f"127.0.0.{number + 1}", "--object-store-memory", str(100 * 2**20)]
        command += ["--dashboard-agent-listen-port", str(52365 + number), "--disable-usage-stats"]
        command += (
            ["--head", "--port", str(PORT), "--include-dashboard", "false", "--temp-dir", str(self._folder)]
            if number == 0
            else ["--address", self.address]
        )
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        with (self._folder / f"node{number}.log").open("wb") as log:
            node = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self._nodes[number] = node
        self._wait(number)
        return number

    def _wait(self, number: int) -> None:
        give_up, log = time.monotonic() + _START_SECONDS, self._folder / f"node{number}.log"
        while self.raylet(number) is None or b"Ray runtime started" not in log.read_bytes():
            assert self._nodes[number].poll() is None, log.read_text("utf-8")
            assert time.monotonic() < give_up, log.read_text("utf-8")
            time.sleep(0.1)

    def raylet(self, number: int) -> int | None:
        """The id of a node's raylet process, the parent of its other processes, or None."""
        with suppress(OSError):
            for process in children(self._nodes[number].pid):
                if b"/raylet/raylet" in Path(f"/proc/{process}/cmdline").read_bytes():
                    return process
        return None

    def replicas(self, number: int) -> list[str]:
        """The names of the Serve deployments and proxies that run on a node."""
        raylet, found = self.raylet(number), []
        for process in children(raylet) if raylet else []:
            with suppress(OSError):
                name = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0].decode().strip()
                if name.startswith("ray::ServeReplica:"):
                    found.append(name.split(":")[4].partition(".")[0])
                elif name.startswith("ray::ProxyActor"):
                    found.append("proxy")
        return sorted(found)

    def kill(self, number: int) -> None:
        """Send SIGKILL to a raylet; its child processes exit when they notice."""
        raylet = self.raylet(number)
        assert raylet is not None
        os.kill(raylet, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(self._nodes.values()):
            node.terminate()
        for node in self._nodes.values():
            with suppress(subprocess.TimeoutExpired):
                node.wait(20)
            node.kill()
            node.wait()


def free_port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
