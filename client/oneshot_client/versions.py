"""Reading one's own writes through any server: a client remembers the version of its last write and asks to see it."""

from __future__ import annotations

import threading
from typing import Any

import httpx

from oneshot_client.calls import Call
from oneshot_client.wire import MIN_VERSION, VERSION, whole_number


class LastWrite:
    """The version of a client's latest write; 0 before the first. Thread-safe."""

    def __init__(self) -> None:
        self._version = 0
        self._lock = threading.Lock()

    def arguments(self, call: Call[Any]) -> dict[str, Any]:
        """What httpx's `request` takes for the call, which sees the latest write if it is answered from a view."""
        arguments = call.arguments()
        if call.viewed and self._version:
            arguments["headers"] = {**arguments.get("headers", {}), MIN_VERSION: str(self._version)}
        return arguments

    def note(self, response: httpx.Response) -> None:
        """Remember the version that a write was answered with."""
        version = whole_number(response.headers.get(VERSION, ""))
        if version is not None:
            with self._lock:
                self._version = max(self._version, version)

    def forget_unknown(self, response: httpx.Response) -> bool:
        """Whether the request asked for a version that the store never had; then it is forgotten.

        So it is after an older backup was restored, or when another service answers at the address.
        """
        asked = response.request.headers.get(MIN_VERSION)
        if asked is None or response.status_code != 422 or MIN_VERSION.encode() not in response.content:
            return False
        with self._lock:
            if self._version == int(asked):
                self._version = 0
        return True
