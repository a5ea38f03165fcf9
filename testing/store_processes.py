"""Run `testing.store_peer` and talk to it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testing.docs import ROOT


class Peer:
    """A second process that has the store open."""

    def __init__(self, where: Path | str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "testing.store_peer", str(where)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, *command: Any) -> str:
        """Send a command and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def kill(self) -> None:
        """SIGKILL: no handler, no flush, no close."""
        self.process.kill()
        self.process.wait()


@contextmanager
def peers(where: Path | str, number: int = 1) -> Iterator[list[Peer]]:
    """Start several peers at once, and kill them at the end."""
    started = [Peer(where) for _ in range(number)]
    try:
        yield started
    finally:
        for peer in started:
            peer.kill()
            for stream in (peer.process.stdin, peer.process.stdout):
                assert stream is not None
                stream.close()
