"""Reads one's own writes through any server: a client remembers the version of its last write and requires it."""

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
        """The arguments of httpx's `request`. A call answered from a view requires the version of the latest write."""
        arguments = call.arguments()
        if call.viewed and self._version:
            arguments["headers"] = {**arguments.get("headers", {}), MIN_VERSION: str(self._version)}
        return arguments

    def note(self, response: httpx.Response) -> None:
        """Remember the version in the answer to a write."""
        version = whole_number(response.headers.get(VERSION, ""))
        if version is not None:
            with self._lock:
                self._version = max(self._version, version)

    def forget_unknown(self, response: httpx.Response) -> bool:
        """Whether the request required a version that the store never had. It is then forgotten.

        This happens after the restore of an older backup, or when another service answers at the address.
        """
        asked = response.request.headers.get(MIN_VERSION)
        if asked is None or response.status_code != 422 or MIN_VERSION.encode() not in response.content:
            return False
        with self._lock:
            if self._version == int(asked):
                self._version = 0
        return True
