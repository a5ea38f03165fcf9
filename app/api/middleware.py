"""Middleware around every request: id, deadline, log entry, metrics, and a handler for unexpected errors.

It is plain ASGI. Starlette's middleware class would run the application in a task of its own and hide cancellation.
"""

from __future__ import annotations

import asyncio
import random
import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.api.read_your_writes import tell_version
from app.errors import DeadlineExceededError, NotReadyError, OneshotError, OverloadedError, StartupError
from app.lifecycle import Lifecycle
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import identify
from oneshot_client.wire import whole_number

log = get_logger(__name__)


_LENGTH = b"content-length"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: The status that nginx logs when the client closed the connection before the answer.
_CLIENT_CLOSED = 499
#: A body is sent in pieces of this many bytes, one after the other. Larger bodies count in the limit on answers.
PIECE = 65_536


def new_request_id() -> str:
    """An id for a request without one."""
    return f"{random.getrandbits(128):032x}"


class RequestContext:
    """Gives each request its context, and turns every error into a problem."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, lifecycle: Lifecycle, seconds: float, quiet: frozenset[str]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._seconds = seconds
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "lifespan":
            await _Lifespan(send).run(self._app, scope, receive)
        elif scope["type"] == "http":
            exchange = _Exchange(scope, send, self._metrics, self._lifecycle, quiet=scope["path"] in self._quiet)
            await exchange.run(self._app, receive, self._seconds)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics, lifecycle: Lifecycle, *, quiet: bool) -> None:
        sent_id = Headers(scope=scope).get("x-request-id", "")
        self._id = sent_id if _SANE_ID.fullmatch(sent_id) else new_request_id()
        scope.setdefault("state", {})["request_id"] = self._id
        self._scope = scope
        self._send = send
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._quiet = quiet
        self._status = 0
        self._refused = False
        self._deadline: asyncio.Timeout | None = None
        self._began = time.perf_counter()

    async def run(self, app: ASGIApp, receive: Receive, seconds: float) -> None:
        with structlog.contextvars.bound_contextvars(request_id=self._id):
            identify(self._id)
            try:
                await self._guarded(app, receive, seconds)
            finally:
                for room in (self._scope["app"].state.room, self._scope["app"].state.answers):
                    room.leave(self._scope)
                self._record()

    async def _guarded(self, app: ASGIApp, receive: Receive, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._deadline = deadline
                await app(self._scope, receive, self.send)
        except ClientDisconnect:
            self._status = _CLIENT_CLOSED
        except asyncio.CancelledError:
            if not self._lifecycle.draining:
                raise
            await self._fail(NotReadyError("The service stopped before it could answer; nothing was changed."), receive)
        except TimeoutError as error:
            if deadline.expired():
                await self._fail(DeadlineExceededError(f"The request took longer than {seconds:g} seconds."), receive)
            else:
                await self._fail(_unexpected(error), receive)
        except MemoryError:  # for the body or the answer
            await self._fail(OverloadedError("There is no memory for this request now."), receive)
        except Exception as error:  # the client must get a problem, without the error's text
            await self._fail(_unexpected(error), receive)

    async def send(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            if refusal := self._no_room(message):
                await problem_response(self._scope, refusal)(self._scope, _nothing, self.send)
                self._refused = True
                return
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._id
            if self._lifecycle.draining:  # the client should send its next request on another connection
                headers["Connection"] = "close"
            tell_version(self._scope, self._status, headers)
        elif len(message.get("body", b"")) > PIECE:
            message = await self._send_in_pieces(message)
        await self._send(message)

    def _no_room(self, start: Message) -> OverloadedError | None:
        """Count a large answer that is about to start. Return the error if there is no room for it."""
        length = next((whole_number(value.decode()) for name, value in start["headers"] if name == _LENGTH), None)
        if length is not None and length > PIECE:
            try:
                self._scope["app"].state.answers.take(self._scope, length)
            except OverloadedError as error:
                return error
        return None

    async def _send_in_pieces(self, message: Message) -> Message:
        """Send all but the last piece. The deadline ends here; the connection limits how slowly the client reads."""
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(None)
        body: bytes = message["body"]
        last = (len(body) - 1) // PIECE * PIECE
        for place in range(0, last, PIECE):
            await self._send({**message, "body": body[place : place + PIECE], "more_body": True})
        return {**message, "body": body[last:]}

    async def _fail(self, error: OneshotError, receive: Receive) -> None:
        response = problem_response(self._scope, error)  # logs details that the client must not see
        if self._status:
            raise error  # part of the answer is sent; the server can only close the connection
        await response(self._scope, receive, self.send)

    def _record(self) -> None:
        seconds = time.perf_counter() - self._began
        method, path = self._scope["method"], self._scope["path"]
        route = getattr(self._scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(method, route, self._status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if slug := self._scope["state"].get("problem"):
            self._metrics.rejections.labels(slug).inc()
        # refusals by an overloaded server are only counted: logging would cost it as much as answering
        write = log.debug if self._quiet or slug == OverloadedError.slug else log.info
        write("request", method=method, path=path, status=self._status, milliseconds=round(seconds * 1000, 2))


async def _nothing() -> Message:
    raise AssertionError("an answer without a request's body reads none")


def _unexpected(cause: Exception) -> OneshotError:
    error = _UnexpectedError(f"{type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error


class _UnexpectedError(OneshotError):
    public = False


class _Lifespan:
    """Replaces the traceback of a start that failed for a known reason by one line."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._failure: Message | None = None

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        try:
            await app(scope, receive, self.send)
        except StartupError as error:
            scope["app"].state.startup_error = error  # for the command line
            await self._send({"type": "lifespan.startup.failed", "message": error.detail})
        except BaseException:
            if self._failure is not None:
                await self._send(self._failure)
            raise

    async def send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            self._failure = message  # the exception follows, and has more information
        else:
            await self._send(message)


class RawClassPaths:
    """Routes ``/classes/…`` by the raw path, so that an encoded slash in a label is not a separator.

    ``/classes/a%2Fimage`` is the class "a/image"; ``/classes/a/image`` is the image of the class "a". The routes decode
    the label themselves (`app.names.label_from_path`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "http" and "/classes/" in scope["path"] and scope.get("raw_path"):
            # in place: the outer middleware reads the matched route from the same scope
            scope["path"] = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
        await self._app(scope, receive, send)
