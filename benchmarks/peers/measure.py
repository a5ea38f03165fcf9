"""One look at one contestant: wrk at several numbers of connections."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.peers.contestants import Contestant, Running

_SCRIPT = Path(__file__).with_name("drive.lua")


@dataclass(frozen=True)
class Look:
    """Requests a second, latencies in milliseconds, CPU milliseconds a request, memory in MB, failures."""

    contestant: str
    material: str
    connections: int
    round: int
    rate: float
    p50: float
    p99: float
    cpu: float
    memory: float
    failures: int


def look(
    contestant: Contestant, server: Running, files: Sequence[Path], connections: int, *, seconds: float, round_: int
) -> Look:
    """Load it for `seconds` after a moment of warming up."""
    wrk(contestant, server, files, connections, seconds=1)
    before = server.usage()
    found = wrk(contestant, server, files, connections, seconds=seconds)
    after = server.usage()
    requests = max(1, found["requests"])
    return Look(
        contestant.name,
        files[0].parent.name,
        connections,
        round_,
        rate=1e6 * found["requests"] / found["microseconds"],
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        cpu=1000 * (after.cpu - before.cpu) / requests,
        memory=after.memory,
        failures=found["status"] + found["socket"] + found["timeout"],
    )


def wrk(
    contestant: Contestant,
    server: Running,
    files: Sequence[Path],
    connections: int,
    *,
    seconds: float,
    path: str = "/classify",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, int]:
    """What wrk counted; `variables` are those of its script."""
    listing = files[0].parent.with_suffix(".list")
    listing.write_text("".join(f"{path}\n" for path in files))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "20s", "-s", str(_SCRIPT)]
    done = subprocess.run(
        [*command, f"{server.url}{path}"],
        env={**os.environ, "FILES": str(listing), "FORM": "1" if contestant.form else "0", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return {name: int(value) for name, _, value in (part.partition("=") for part in line.split()[1:])}
