"""How much of requests' bodies may be in memory at once, so that a flood of uploads ends in refusals, not in a kill."""

from __future__ import annotations

from starlette.types import Scope

from app.errors import OverloadedError

_HELD = "held_bytes"


class Room:
    """Counts the bytes of all bodies that are being read or worked on. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used = 0

    def take(self, scope: Scope, count: int) -> None:
        """Count bytes that came in for a request. Raises OverloadedError when there is no room for them."""
        if self.used + count > self._max_bytes:
            raise OverloadedError("Too many bytes are being uploaded; try again in a moment.")
        self.used += count
        scope["state"][_HELD] = scope["state"].get(_HELD, 0) + count

    def leave(self, scope: Scope) -> None:
        """Give back what a request held; it is over."""
        self.used -= scope["state"].pop(_HELD, 0)
