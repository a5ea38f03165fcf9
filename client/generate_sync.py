"""Generate oneshot_client/sync.py from oneshot_client/asynchronous.py: `make client`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

PACKAGE = Path(__file__).parent / "oneshot_client"
SOURCE, TARGET = "asynchronous.py", "sync.py"
_HEADER = f"# Generated from {SOURCE} by `make client`. Change that file, not this one.\n"
_NAMES = {
    "AsyncClient": "Client",
    "AsyncBaseTransport": "BaseTransport",
    "AsyncHTTPTransport": "HTTPTransport",
    "aclose": "close",
    "asyncio": "time",
    "run_many_async": "run_many",
}


def generate() -> str:
    """The text of sync.py, formatted."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, SOURCE), Path(folder, TARGET)
        source.write_text((PACKAGE / SOURCE).read_text("utf-8"), "utf-8")
        unasync.unasync_files([str(source)], [unasync.Rule(SOURCE, TARGET, _NAMES)])
        text = _HEADER + target.read_text("utf-8")
    return _ruff("format", text=_ruff("check", "--fix", "--select=I", text=text))


def _ruff(*arguments: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--quiet", f"--stdin-filename={PACKAGE / TARGET}", "-"]
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True)  # noqa: S603
    return done.stdout


if __name__ == "__main__":
    (PACKAGE / TARGET).write_text(generate(), "utf-8")
