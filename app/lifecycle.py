"""Where the process is in its life: serving, draining after a signal, or failed for good."""

from __future__ import annotations

from collections.abc import Callable


class Lifecycle:
    """What the server, the middleware and the probes share about the process. Methods may be called from any thread.

    `draining` is true from the signal to stop until the end. `failed` is why the process can't go on, or None.
    """

    def __init__(self) -> None:
        self.draining = False
        self.failed: str | None = None
        self._stop: Callable[[], None] | None = None

    def on_failure(self, stop: Callable[[], None]) -> None:
        """Call `stop` when the process can't go on. (An embedded application only stops being ready.)"""
        self._stop = stop

    def fail(self, reason: str) -> None:
        """Say that the process can't go on, and end it, so that a supervisor starts another."""
        self.failed = reason
        if self._stop is not None:
            self._stop()
