"""Follows a store on a server also without requests, so that the views are recent when the server goes down."""

from __future__ import annotations

import threading

from app.access.gate import Gate
from app.errors import UnavailableError
from app.gallery.protocol import Galleries
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_LOOK_SECONDS = 0.5


class Follower:
    """A thread that keeps the views and a gate's keys up to date."""

    def __init__(self, index: Galleries, gate: Gate | None = None) -> None:
        self._index, self._gate = index, gate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._index.refresh()
                if self._gate is not None and self._gate.asks:
                    self._gate.read_keys()
            except UnavailableError:  # already logged where it was detected
                pass
            except Exception:
                log.exception("following_failed")
            if self._stopping.wait(_LOOK_SECONDS):
                return

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(10)
