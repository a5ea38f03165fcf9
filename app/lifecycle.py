"""State of the process: serving, draining after a signal, or failed."""

from __future__ import annotations

from collections.abc import Callable


class Lifecycle:
    """State of the process, shared by the server, the middleware and the probes. Methods are thread-safe.

    `draining` is true from the stop signal until the end. `failed` is the reason why the process can't go on, or None.
    """

    def __init__(self) -> None:
        self.draining = False
        self.failed: str | None = None
        self._stop: Callable[[], None] | None = None

    def on_failure(self, stop: Callable[[], None]) -> None:
        """Register `stop`, to be called on a failure. Without it (embedded), the application only stops being ready."""
        self._stop = stop

    def fail(self, reason: str) -> None:
        """Mark the process as failed and stop it, so that a supervisor can start another."""
        self.failed = reason
        if self._stop is not None:
            self._stop()
