"""Run Ray in a network namespace with only loopback, because it listens on all of a machine's addresses."""

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
    """Why tests on Ray cannot run here, or None."""
    if find_spec("ray") is None:
        return "Ray is not installed (extra ray)"
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not installed"
    if subprocess.run([*_unshare(), "true"], capture_output=True, check=False).returncode:
        return "this machine allows no network namespace"
    return None


def command_alone(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a Python module in a namespace of its own; its leftover processes are killed at the end."""
    # in a PID namespace all processes end with the first one
    start = [*_unshare(), "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    return [*start, "-m", __name__, module, *arguments]


def environment_alone() -> dict[str, str]:
    """The environment for such a command."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}


def run_alone(
    module: str, arguments: Sequence[str], seconds: float, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the module and wait for it."""
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
    """Bring up loopback (127.0.0.0/8) in the new namespace."""
    request = struct.pack("16sH14s", b"lo", _IFF_UP, b"")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


if __name__ == "__main__":
    raise_loopback()
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
