"""uvicorn's connection with limits on what comes before a request's body, and answers in one piece.

A client that sends a byte of its request's head every few seconds, or a head without end, would otherwise hold a
connection (and memory) for as long as it likes, and no part of the application would ever hear of it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from app.errors import HeadTooLargeError, OneshotError, UploadTimeoutError
from app.logs import get_logger
from app.middleware import new_request_id
from app.problems import problem_response

if TYPE_CHECKING:  # the two have the same parts, and which of them it is depends on what is installed
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as Protocol

log = get_logger(__name__)

#: Most bytes of a head: eight times what browsers and proxies send at most.
MAX_HEAD_BYTES = 65_536


def guarded(seconds: float) -> Any:
    """The class of connections for uvicorn's `http` option, of which each head may take so many seconds."""
    return partial(GuardedConnection, head_seconds=seconds)


class OnePiece:
    """A transport that sends what is written to it in one turn of the loop by one call of the system.

    uvicorn writes an answer's head and its body apart, and each would be a packet that wakes the client up.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send before the loop's next turn."""
        if not self._pieces:
            self._loop.call_soon(self._send)
        self._pieces.append(data)

    def close(self) -> None:
        """Close when all is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()


class GuardedConnection(Protocol):
    """A connection that waits for a head, from its start or from the last answer's end, only so long."""

    def __init__(self, *args: Any, head_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head_seconds = head_seconds
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head."""
        super().connection_made(cast("asyncio.Transport", OnePiece(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the head is complete; start it with the first byte of the next."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif not self.transport.is_closing():
            self._await_head()
            if self.cycle is None or not self.cycle.more_body:  # else the rest of a body that was answered early
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadTooLargeError(f"The request's head is larger than {MAX_HEAD_BYTES} bytes."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_seconds, self._too_slow)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            seconds = f"{self._head_seconds:g} seconds"
            self._refuse(UploadTimeoutError(f"The request's head took longer than {seconds} to come in."))
        else:  # a connection that was opened and not used
            self.transport.close()

    def _refuse(self, error: OneshotError) -> None:
        """Answer without a request, and close."""
        request_id = new_request_id()
        answer = problem_response({"type": "http", "path": "/", "state": {"request_id": request_id}}, error)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        lines = [f"HTTP/1.1 {error.status} {error.title}".encode(), *(name + b": " + value for name, value in headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
        log.info("head_refused", slug=error.slug, request_id=request_id, client=self.client)
