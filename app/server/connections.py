"""uvicorn's connection with limits on what comes before a request's body, and on how slowly its answer is read.

A client that sends a byte of its request's head every few seconds, a head without end, or doesn't read its answer would
otherwise hold a connection (and memory) for as long as it likes, and no part of the application would ever hear of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.middleware import PIECE, new_request_id
from app.api.problems import problem_response
from app.errors import HeadTooLargeError, OneshotError, RequestError, UploadTimeoutError
from app.settings import Settings
from app.telemetry.logs import get_logger

log = get_logger(__name__)

#: Most bytes of a head: eight times what browsers and proxies send at most.
MAX_HEAD_BYTES = 65_536
#: Most bytes that the system keeps unsent, where it can be asked to (else megabytes for one that doesn't read).
_UNSENT_BYTES = 2 * PIECE
#: To close without waiting for what is not sent yet to be read.
_AT_ONCE = struct.pack("ii", 1, 0)


def guarded(settings: Settings) -> Any:
    """The class of connections for uvicorn's `http` option."""
    return partial(GuardedConnection, head_seconds=settings.head_timeout, send_seconds=settings.send_timeout)


class OnePiece:
    """A transport that sends what is written to it in one turn of the loop by one call of the system, if it is little.

    uvicorn writes an answer's head and its body apart, and each would be a packet that wakes the client up.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send before the loop's next turn, or now what is enough to see whether the client reads."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= PIECE:
            self.flush()

    def close(self) -> None:
        """Close when all is sent."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send now."""
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0


class GuardedConnection(HttpToolsProtocol):
    """A connection that waits only so long for a head, from its start or the last answer's end, and for its reader.

    What uvicorn's class leaves to its heirs: `cycle` is the request that came last, `send_400_response` is called when
    the parser, or what it calls, fails; the parser calls `on_header` for the fields of a head, and for those that may
    follow a body in chunks.
    """

    def __init__(self, *args: Any, head_seconds: float, send_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head_seconds, self._send_seconds = head_seconds, send_seconds
        self._head_bytes = self._field_bytes = self._unseen_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._fault: OneshotError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first head."""
        transport.set_write_buffer_limits(high=0)  # to hear of everything that isn't read at once
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):
                connection = transport.get_extra_info("socket")
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        super().connection_made(cast("asyncio.Transport", OnePiece(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the head is complete; start it with the first byte of the next."""
        self._unseen_bytes += len(data)
        super().data_received(data)
        if self._unseen_bytes > MAX_HEAD_BYTES + len(data) and not self.transport.is_closing():
            self._fault = _too_large()
            self.send_400_response("")
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif not self.transport.is_closing():
            self._await_head()
            if self.cycle is None or not self.cycle.more_body:  # else the rest of a body that was answered early
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_large())

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._forget_head()
        self._forget_reader()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has said that it sends no more, but may well read; then close."""
        answering = self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)
        if answering:
            self.cycle.keep_alive = False
        else:  # the loop closes the connection itself
            cast("OnePiece", self.transport).flush()
        return answering

    def on_message_begin(self) -> None:
        """Count anew."""
        self._field_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the address, unless it is too long; it may have come with others in one piece."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field, unless there are too many. Those after a body are of no use here, but are kept as well."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; what frames it, such as the extensions of chunks, counts until one comes."""
        self._unseen_bytes = 0
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._unseen_bytes = 0
        self._field_bytes += size
        if self._field_bytes > MAX_HEAD_BYTES:
            self._fault = _too_large()
            raise self._fault  # to the parser, which stops

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request in the form of every error; where an answer is on its way, only close."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(self._fault or RequestError(msg))

    def pause_writing(self) -> None:
        """Start the reader's clock: something waits to be sent."""
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(self._send_seconds, self._not_read)

    def resume_writing(self) -> None:
        """Stop it: all that was written so far is sent."""
        self._forget_reader()
        super().resume_writing()

    def _forget_reader(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _not_read(self) -> None:
        self._send_timer = None
        log.info("answer_not_read", seconds=self._send_seconds, client=self.client)
        with suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

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


def _too_large() -> HeadTooLargeError:
    return HeadTooLargeError(f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")
