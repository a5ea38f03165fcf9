"""A network namespace with nothing but loopback: Ray listens on whatever addresses a machine has."""

from __future__ import annotations

import fcntl
import os
import runpy
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def _unshare() -> list[str]:
    if os.geteuid() == 0:
        return ["unshare", "--net"]
    return ["unshare", "--user", "--map-current-user", "--keep-caps", "--net"]


def missing() -> str | None:
    """What a test on Ray lacks here."""
    if find_spec("ray") is None:
        return "Ray is not installed (extra ray)"
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not installed"
    if subprocess.run([*_unshare(), "true"], capture_output=True, check=False).returncode:
        return "this machine allows no network namespace"
    return None


def command_alone(module: str, arguments: Sequence[str]) -> list[str]:
    """What runs a module of Python in a namespace of its own; whatever it has left running is killed at the end."""
    # with a namespace of process ids, too, all that was started ends with its first process
    start = [*_unshare(), "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    return [*start, "-m", __name__, module, *arguments]


def environment_alone() -> dict[str, str]:
    """What it should find in its environment."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}


def run_alone(
    module: str, arguments: Sequence[str], seconds: float, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command_alone(module, arguments),
        cwd=folder,
        env=environment_alone(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def raise_loopback() -> None:
    """Make 127.0.0.0/8 usable, in the new namespace."""
    request = struct.pack("16sH14s", b"lo", _IFF_UP, b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


if __name__ == "__main__":
    raise_loopback()
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
