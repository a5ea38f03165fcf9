"""One measurement of one contestant with wrk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers.contestants import Contestant, Running

_SCRIPT = Path(__file__).with_name("drive.lua")


@dataclass(frozen=True)
class Look:
    """One measurement: requests/s, latencies in ms, CPU ms per request, memory in MB, failures."""

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
    """Load the server for `seconds`, after a one-second warm-up."""
    load = partial(wrk, server.url, files, connections, form=contestant.form, key=server.key)
    load(1)
    before = server.usage()
    found = load(seconds)
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
    url: str,
    files: Sequence[Path],
    connections: int,
    seconds: float,
    *,
    path: str = "/classify",
    form: bool = False,
    bundle: int = 1,
    targets: Sequence[str] = (),
    key: str | None = None,
) -> dict[str, int]:
    """Run wrk and return its counts: requests, failures by kind, times in microseconds. A form has `bundle` files.

    Each request has the API key `key`, if given. The connections are spread evenly over `targets`, if given.
    """
    variables = {"FORM": "1" if form else "0", "BUNDLE": str(bundle), "KEY": key or ""}
    listing = files[0].parent.with_suffix(".list")
    listing.write_text("".join(f"{path}\n" for path in files))
    command = ["wrk", f"-t{len(targets) or 1}", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "20s"]
    addresses = " ".join(target.removeprefix("http://") for target in targets)
    done = subprocess.run(
        [*command, "-s", str(_SCRIPT), f"{url}{path}"],
        env={**os.environ, "FILES": str(listing), "TARGETS": addresses, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return {name: int(value) for name, _, value in (part.partition("=") for part in line.split()[1:])}
