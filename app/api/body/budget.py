"""Limits the bytes of bodies in memory, so that excess requests are refused before the process runs out of memory."""

from __future__ import annotations

from collections import Counter

from starlette.types import Scope

from app.api.peers import holder
from app.errors import OverloadedError

#: Share of one client in the bytes that the others leave: however much it holds, there is room for another client.
_SHARE = 0.75


class Room:
    """Counts the bytes of all bodies that are being read or processed, or of all answers. For one event loop."""

    def __init__(self, max_bytes: int, what: str = "uploaded") -> None:
        self._max_bytes, self._what = max_bytes, what
        self._held: Counter[str] = Counter()
        self.used = 0

    def take(self, scope: Scope, count: int) -> None:
        """Count bytes for a request. Raises OverloadedError when there is no room for them."""
        state = scope["state"]
        who, own = state.get(self._what) or (holder(scope), 0)
        others = self.used - self._held[who]
        if self._held[who] + count > _SHARE * (self._max_bytes - others):
            raise OverloadedError(f"Too many bytes are being {self._what}; try again in a moment.")
        self.used += count
        self._held[who] += count
        state[self._what] = who, own + count

    def give(self, scope: Scope, count: int) -> None:
        """Release bytes that a request no longer needs."""
        who, own = scope["state"].get(self._what) or (holder(scope), 0)
        self.used -= count
        self._held[who] -= count
        scope["state"][self._what] = who, own - count

    def leave(self, scope: Scope) -> None:
        """Release all bytes of a request that has ended."""
        who, own = scope["state"].pop(self._what, (None, 0))
        if who is not None:
            self.used -= own
            self._held[who] -= own
            if not self._held[who]:
                del self._held[who]
