"""A short way for the requests that come most: past the framework's routing, its dependencies and its encoder.

The answers are those of the routes, from the same functions; only how a request gets there is shorter. Where keys are
asked for, requests take the long way, on which they are checked; so they do where they are traced, because the
framework makes their spans.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import invalid_fields, problem_response
from app.api.read_your_writes import reach
from app.api.routes.recognize import classified, embedded
from app.api.schemas import ClassifyQuery, EmptyQuery
from app.errors import OneshotError
from app.service.service import Service
from app.telemetry.tracing import is_on

_M = TypeVar("_M", bound=BaseModel)
Answer: TypeAlias = Callable[[Request, Service], Awaitable[BaseModel]]


@dataclass(frozen=True)
class _Route:
    """What the log and the metrics name a request by."""

    path: str


class HotPath:
    """Answers the requests of `_ANSWERS`, and passes on all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        answer = _ANSWERS.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        service: Service | None = getattr(scope["app"].state, "service", None) if answer else None
        if answer is None or service is None or service.gate.asks or is_on():
            await self._app(scope, receive, send)
            return
        scope["route"] = _Route(scope["path"])
        try:
            service.recognizer.check_room()  # before the body costs anything
            await reach(service, scope)
            body = (await answer(Request(scope, receive), service)).model_dump_json(by_alias=True)
            response = Response(body, media_type="application/json")
        except OneshotError as error:
            response = problem_response(scope, error)
        await response(scope, receive, send)


def _query(request: Request, model: type[_M]) -> _M:
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise invalid_fields([{**each, "loc": ("query", *each["loc"])} for each in found]) from None


async def _classify(request: Request, service: Service) -> BaseModel:
    return await classified(request, service, _query(request, ClassifyQuery))


async def _embed(request: Request, service: Service) -> BaseModel:
    _query(request, EmptyQuery)
    return await embedded(request, service)


_ANSWERS: Mapping[tuple[str, str], Answer] = {("POST", "/classify"): _classify, ("POST", "/embed"): _embed}
