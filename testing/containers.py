"""A container engine for tests, and Compose projects in it.

If no engine is running, ../shared/tools/docker-engine is started, if it exists, and stopped at the end. Without either
the test is skipped.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parent.parent
STARTER = ROOT.parent / "shared" / "tools" / "docker-engine"


@dataclass(frozen=True)
class Engine:
    """A running engine and the Compose project under test."""

    environment: dict[str, str]
    compose_command: list[str]
    port: int
    project: str
    image: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{shlex.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def docker(self, *arguments: str) -> str:
        return self.run("docker", *arguments)

    def compose(self, *arguments: str) -> str:
        return self.run(*self.compose_command, "-p", self.project, *arguments)

    def up(self) -> None:
        self.compose("up", "--no-build", "--pull", "never", "--wait", "--wait-timeout", "120")

    def containers(self, service: str = "oneshot") -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()

    def container(self) -> str:
        [container] = self.containers()
        return container

    def inspect(self, template: str, container: str | None = None) -> Any:
        name = container or self.container()
        return json.loads(self.docker("inspect", "--format", f"{{{{json {template}}}}}", name))

    def in_container(self, *command: str) -> str:
        return self.docker("exec", self.container(), *command)

    def kill_hard(self, container: str | None = None) -> None:
        """SIGKILL its first process from outside (after `docker kill` the engine would not restart it)."""
        pid = str(self.inspect(".State.Pid", container))
        helper = ["--rm", "--pid=host", "--network=none", "--user=0:0", "--entrypoint=python", self.image]
        self.docker("run", *helper, "-c", f"import os; os.kill({pid}, 9)")


def answers(environment: dict[str, str], *command: str) -> bool:
    with suppress(FileNotFoundError):
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    return False


def exports(text: str, environment: dict[str, str]) -> dict[str, str]:
    """The environment after running shell text such as `export A=... B=...`."""
    script = f"{text}\nenv -0"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)


def compose_command(environment: dict[str, str]) -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if answers(environment, *command, "version"):
            return command
    pytest.skip("no docker compose on this machine")


def engine_environment(environment: dict[str, str], undo: list[Callable[[], object]]) -> dict[str, str]:
    """The environment of an engine that answers: a running one, or one started by STARTER. Skips if there is none."""
    if answers(environment, "docker", "info"):
        return environment
    if not STARTER.exists():
        pytest.skip("no container engine runs on this machine")
    started = exports(subprocess.check_output([STARTER, "env"], text=True), environment)
    if not answers(started, "docker", "info"):
        undo.append(lambda: subprocess.run([STARTER, "down"], check=True, capture_output=True))
        subprocess.run([STARTER, "up"], check=True, capture_output=True)
    return started


def build(environment: dict[str, str], image: str, extras: str = "") -> None:
    """Build the service's image."""
    arguments = ["--network=host", "--tag", image, "--build-arg", f"EXTRAS={extras}"]
    done = subprocess.run(
        ["docker", "build", *arguments, str(ROOT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@contextmanager
def composed(project: str, image: str, *files: str, extras: str = "", **variables: str) -> Iterator[Engine]:
    """An engine with the service's image, for a project of these Compose files; everything is removed at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONESHOT_")}
    undo: list[Callable[[], object]] = []
    try:
        environment = engine_environment(environment, undo)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment |= {"SERVICE_IMAGE": image, "SERVICE_PORT": str(port), "DOCKER_BUILDKIT": "1", **variables}
        command = [*compose_command(environment), *(word for file in files for word in ("-f", file))]
        running = Engine(environment, command, port, project, image)
        build(environment, image, extras)
        undo.append(lambda: running.docker("image", "rm", "--force", image))
        undo.append(lambda: running.compose("down", "--volumes", "--timeout", "5"))
        yield running
    finally:
        for step in reversed(undo):
            step()


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 90) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.5)
    pytest.fail(f"{what} did not come about within {seconds} s")
