"""Results of the reliability proofs in one format, from which one page is generated.

Each proof calls `record` when it has passed. Nothing is written unless the variable RELIABILITY_JSON names a file.
`make bench-reliability` sets it; an ordinary test run changes no file of the project.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_VERSIONS = ("fastapi", "uvicorn", "torch", "pillow", "sqlalchemy")
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Proof:
    """The result of one proof: `tried` and `faults` count the operations and the injected faults, by name.

    `lost` counts requests without an answer and acknowledged changes that were not kept. `errors_5xx` counts statuses
    from 500 on except 503. `leaked` describes the growth of memory, descriptors and the like. `command` repeats the
    proof.
    """

    what: str
    command: str
    tried: Mapping[str, int]
    faults: Mapping[str, int]
    lost: int
    errors_5xx: int
    leaked: str = "-"
    ended: str = "-"


def record(name: str, proof: Proof) -> None:
    """Write the proof under its name into the file named by RELIABILITY_JSON, if it is set."""
    target = os.environ.get("RELIABILITY_JSON")
    if target:
        path = _ROOT / target
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        found[name] = asdict(proof) | {"run": run()}
        path.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n", "utf-8")


def run() -> dict[str, str]:
    """Date, machine and versions."""
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions()}


def machine() -> str:
    """CPUs, architecture, memory and system of this machine."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} CPUs ({platform.machine()}), {gigabytes:.0f} GiB, {platform.system()}"


def versions() -> str:
    """The project's version and commit, and those of Python, SQLite and the main packages."""
    git = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=10", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    parts = [
        f"oneshot {version('oneshot')}" + (f" ({commit})" if commit else ""),
        f"Python {platform.python_version()}",
    ]
    return ", ".join([*parts, f"SQLite {sqlite3.sqlite_version}", *(f"{name} {version(name)}" for name in _VERSIONS)])
