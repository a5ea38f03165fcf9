"""The deployments that `benchmarks.nodes` compares, each a group of processes of which some can be killed.

`CONFIGURATIONS` lists them all.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx

from testing.postgres import Postgres, missing
from testing.torture import Server

_WORKERS, _NODES, _SHARDS = 4, 3, 2
_SETTLE_SECONDS, _IN_A_ROW = 120.0, 5


class Group:
    """Servers on one store; each keeps its address and its data folder across restarts.

    `in_doubt` are the statuses after which the outcome of a write is unknown.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        options: list[str],
        *,
        store: str = "",
        victims: str = "",
        in_doubt: frozenset[int] = frozenset({504}),
    ) -> None:
        self.in_doubt = in_doubt
        self._folder, self._options, self._store, self._victims = folder, options, store, victims
        self._ports = [_free_port() for _ in range(count)]
        self._servers: list[Server | None] = [None] * count
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]

    def start(self) -> None:
        """Start every server that is down, and wait until all are ready."""
        for number, server in enumerate(self._servers):
            if server is None:
                options = ["--port", str(self._ports[number]), *self._options]
                home, log = self._folder / f"home{number}", self._folder / f"server{number}.log"
                self._servers[number] = Server(home, None, 1, log, store=self._store, options=options)

    def settle(self) -> None:
        """Wait until every address is ready, several times in a row."""
        give_up, good = time.monotonic() + _SETTLE_SECONDS, 0
        while good < _IN_A_ROW:
            good = good + 1 if all(_is_ready(url) for url in self.urls) else 0
            if time.monotonic() > give_up:
                raise RuntimeError("it did not come back after a kill")
            time.sleep(0.05)

    def kill(self, chance: random.Random) -> None:
        """Send SIGKILL to a random server, or to one of its `victims` if it restarts these by itself."""
        number = chance.randrange(len(self._servers))
        server = self._servers[number]
        if server is None:
            return
        processes = named(server.process.pid, self._victims) if self._victims else []
        if processes:
            os.kill(chance.choice(processes), signal.SIGKILL)
        else:
            _end(server)
            self._servers[number] = None

    def close(self) -> None:
        """Stop all servers."""
        for server in self._servers:
            if server is not None:
                _end(server)


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=30, trust_env=False).is_success
    return False


def _end(server: Server) -> None:
    """Send SIGKILL to the server and its session, including processes in other process groups, such as Ray's."""
    others = named(server.process.pid)
    server.kill()
    for process in others:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def named(session: int, text: str = "") -> list[int]:
    """The processes of a session, except its leader, whose command line contains the text."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                own = int((folder / "stat").read_text("ascii").rpartition(")")[2].split()[3]) == session
            except OSError:  # the process has exited
                continue
            if own and text in line and int(folder.name) != session:
                found.append(int(folder.name))
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Configuration:
    """One deployment; `missing` returns why it cannot run here, or None."""

    name: str
    run: Callable[[Path], AbstractContextManager[Group]]
    missing: Callable[[], str | None] = lambda: None


def _configuration(
    name: str,
    *options: str,
    count: int = 1,
    database: bool = False,
    victims: str = "",
    in_doubt: frozenset[int] = frozenset({504}),
    lacking: Callable[[], str | None] = lambda: None,
) -> Configuration:
    @contextmanager
    def run(folder: Path) -> Iterator[Group]:
        folder.mkdir(parents=True)
        with ExitStack() as stack:
            store = stack.enter_context(Postgres()).new_store() if database else ""
            group = Group(folder, count, list(options), store=store, victims=victims, in_doubt=in_doubt)
            stack.callback(group.close)
            group.start()
            yield group

    return Configuration(name, run, lambda: (missing() if database else None) or lacking())


def _no_ray() -> str | None:
    return None if find_spec("ray") else "Ray is not installed (extra ray)"


#: In the order of the page. `victims` are the processes to kill instead of the server.
CONFIGURATIONS = (
    _configuration("1 process"),
    _configuration(f"{_WORKERS} workers", "--workers", str(_WORKERS), victims="spawn_main"),
    _configuration(f"{_NODES} nodes on PostgreSQL", count=_NODES, database=True),
    _configuration(
        f"Ray with {_SHARDS} shards",
        *("--engine", "ray", "--shards", str(_SHARDS)),
        database=True,
        victims="ray::ServeReplica",
        in_doubt=frozenset({500, 502, 504}),  # Ray's proxy answers 500 if the process behind it has died
        lacking=_no_ray,
    ),
)
