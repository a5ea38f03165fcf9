"""uvicorn's connection with limits on the head of a request, and on how slowly its answer is read.

Otherwise a client could hold a connection and its memory for as long as it likes: by sending a head byte by byte or
without end, or by not reading its answer. The application would never notice.
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

#: Largest head in bytes: eight times what browsers and proxies send.
MAX_HEAD_BYTES = 65_536
#: Most unsent bytes in the kernel's buffer, where it supports a limit (else megabytes, if the client doesn't read).
_UNSENT_BYTES = 2 * PIECE
#: SO_LINGER value that closes at once and discards unsent data.
_AT_ONCE = struct.pack("ii", 1, 0)


def guarded(settings: Settings) -> Any:
    """The connection class for uvicorn's `http` option."""
    return partial(GuardedConnection, head_seconds=settings.head_timeout, send_seconds=settings.send_timeout)


class OnePiece:
    """A transport that sends everything written in one turn of the loop in one system call, if it is small.

    uvicorn writes an answer's head and body separately. Each would be a packet that wakes the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        """Delegate everything else to the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send before the loop's next turn. At PIECE bytes send at once, which shows whether the client reads."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= PIECE:
            self.flush()

    def close(self) -> None:
        """Send what is buffered, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what is buffered."""
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0


class GuardedConnection(HttpToolsProtocol):
    """A connection with time limits on each head, from the connection's start or the last answer's end, and on reading.

    How uvicorn's class is extended: `cycle` is the latest request; `send_400_response` is called when the parser or one
    of its callbacks fails; the parser calls `on_header` for the fields of a head, and for trailers of a chunked body.
    """

    def __init__(self, *args: Any, head_seconds: float, send_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head_seconds, self._send_seconds = head_seconds, send_seconds
        self._head_bytes = self._field_bytes = self._unseen_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._fault: OneshotError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first head."""
        transport.set_write_buffer_limits(high=0)  # to be notified of all data that isn't read at once
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):
                connection = transport.get_extra_info("socket")
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        super().connection_made(cast("asyncio.Transport", OnePiece(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Stop the timer when the head is complete; start it with the first byte of the next."""
        self._unseen_bytes += len(data)
        super().data_received(data)
        if self._unseen_bytes > MAX_HEAD_BYTES + len(data) and not self.transport.is_closing():
            self._fault = _too_large()
            self.send_400_response("")
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif not self.transport.is_closing():
            self._await_head()
            if self.cycle is None or not self.cycle.more_body:  # else the rest of a body, answered early
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_large())

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._forget_head()
        self._forget_reader()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has closed its side for sending but may still read; then close."""
        answering = self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)
        if answering:
            self.cycle.keep_alive = False
        else:  # the loop closes the connection itself
            cast("OnePiece", self.transport).flush()
        return answering

    def on_message_begin(self) -> None:
        """Reset the size of the head."""
        self._field_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the URL, unless the head is too large. One read may bring pieces of several requests."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field, unless the head is too large. Trailers are kept too, though not used."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body. Framing, such as chunk extensions, counts until a piece comes."""
        self._unseen_bytes = 0
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._unseen_bytes = 0
        self._field_bytes += size
        if self._field_bytes > MAX_HEAD_BYTES:
            self._fault = _too_large()
            raise self._fault  # to the parser, which stops

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request with a problem, like any error. Once an answer has started, only close."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(self._fault or RequestError(msg))

    def pause_writing(self) -> None:
        """Start the send timer: data waits to be sent."""
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(self._send_seconds, self._not_read)

    def resume_writing(self) -> None:
        """Stop the send timer: all data is sent."""
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
        """Send an error answer that belongs to no request, and close."""
        request_id = new_request_id()
        answer = problem_response({"type": "http", "path": "/", "state": {"request_id": request_id}}, error)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        lines = [f"HTTP/1.1 {error.status} {error.title}".encode(), *(name + b": " + value for name, value in headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
        log.info("head_refused", slug=error.slug, request_id=request_id, client=self.client)


def _too_large() -> HeadTooLargeError:
    return HeadTooLargeError(f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")
