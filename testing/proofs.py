"""What a proof of reliability found, in one form, so that one page can be made of all of them.

Each proof calls `record` when it has passed. It writes nothing unless the variable RELIABILITY_JSON names the file,
which `make bench-reliability` sets; so an ordinary test run changes no file of the project.
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
    """Counts by name of what was tried and of the faults that were injected, and what became of it.

    `lost` are requests without an answer, or answers that did not hold; `errors_5xx` those with a status from 500 on,
    503 excepted; `leaked` is what was measured of memory, descriptors or else; `command` runs the proof again.
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
    """Write the proof under its name into the file that RELIABILITY_JSON names, if it names one."""
    target = os.environ.get("RELIABILITY_JSON")
    if target:
        path = _ROOT / target
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        found[name] = asdict(proof) | {"run": run()}
        path.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n", "utf-8")


def run() -> dict[str, str]:
    """When, where and on what."""
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions()}


def machine() -> str:
    """Cores, kind, memory and system of this machine."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} CPUs ({platform.machine()}), {gigabytes:.0f} GiB, {platform.system()}"


def versions() -> str:
    """The project's commit and what it ran on."""
    git = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=10", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    parts = [
        f"oneshot {version('oneshot')}" + (f" ({commit})" if commit else ""),
        f"Python {platform.python_version()}",
    ]
    return ", ".join([*parts, f"SQLite {sqlite3.sqlite_version}", *(f"{name} {version(name)}" for name in _VERSIONS)])
