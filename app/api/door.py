"""The route class of all routes, with or without keys and traces.

FastAPI uses the endpoints' signatures for the schema only. Its dependency resolution costs more than the work of some
routes, so requests bypass it: a signature is compiled once into readers, one per argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

from fastapi import APIRouter, FastAPI, Response, Security
from fastapi.params import Depends, Path, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from app.api.guard import BEARER, HEADER, admitted
from app.api.policy import policy_of
from app.api.problems import invalid_fields

Reader: TypeAlias = Callable[[Request], object]


class Door(APIRoute):
    """A route whose endpoint declares a policy (`app.api.policy`), enforced before the body is read."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if options.get("dependencies"):
            raise TypeError(f"{path}: a door runs no dependencies of a router")
        options["dependencies"] = [Security(BEARER), Security(HEADER)]  # for the schema; `admitted` reads the keys
        super().__init__(path, endpoint, **options)
        self.policy = policy_of(endpoint)
        self._arguments = Arguments(endpoint)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for this path."""
        methods = self.methods or ()
        if scope["method"] not in methods:
            raise HTTPException(405, headers={"Allow": ", ".join(methods)})
        request = Request(scope, receive)
        async with admitted(request, self.policy):
            response = await self._answer(request)
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        answer = await self.endpoint(**self._arguments.of(request))
        if isinstance(answer, Response):
            return answer
        return json_response(answer, self.status_code or 200)


def json_response(body: BaseModel | None, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer of the API. Without `body`, its content is empty."""
    content = b"" if body is None else body.model_dump_json(by_alias=True)
    return Response(content, status, headers, media_type="application/json")


def router(**options: Any) -> APIRouter:
    """A router whose routes are of the class `Door`."""
    return APIRouter(route_class=Door, **options)


def add_routes(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """Serve the routes. Raises TypeError for one that is not a `Door`, because it would need no key.

    They are added to the application itself: FastAPI searches the routes of an included router twice per request.
    """
    app.router.route_class = Door
    for route in routes:
        if not isinstance(route, Door):
            raise TypeError(f"{route} is not guarded: make it a route of `app.api.door.router`")
        app.router.routes.append(route)


class Arguments:
    """Reads an endpoint's arguments from a request: from its path, its query, or by a dependency (`Depends`)."""

    def __init__(self, endpoint: Callable[..., Any]) -> None:
        hints = get_type_hints(endpoint, include_extras=True)
        self._readers = {name: _reader(name, hints[name]) for name in signature(endpoint).parameters}

    def of(self, request: Request) -> dict[str, object]:
        """The arguments. Raises InvalidRequestError, which names everything that is wrong with them."""
        found: dict[str, object] = {}
        wrong: list[Any] = []
        for name, read in self._readers.items():
            try:
                found[name] = read(request)
            except _InvalidParameterError as error:
                wrong += error.fields
        if wrong:
            raise invalid_fields(wrong)
        return found


class _InvalidParameterError(Exception):
    """Pydantic's errors for one parameter, with locations as FastAPI reports them."""

    def __init__(self, error: ValidationError, *place: str) -> None:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        self.fields = [{**each, "loc": (*place, *each["loc"])} for each in found]


def _reader(name: str, hint: Any) -> Reader:
    if hint is Request:
        return lambda request: request
    if get_origin(hint) is Annotated:
        for source in get_args(hint)[1:]:
            match source:
                case Depends(dependency=reader) if reader is not None:
                    return reader
                case Path():
                    return _PathReader(name, TypeAdapter(hint))
                case Query():
                    return _QueryReader(get_args(hint)[0])
    raise TypeError(f"parameter {name}: {hint} is none of Request, Depends, Path and Query")


@dataclass(frozen=True)
class _PathReader:
    name: str
    adapter: TypeAdapter[Any]

    def __call__(self, request: Request) -> object:
        try:
            return self.adapter.validate_python(request.path_params[self.name])
        except ValidationError as error:
            raise _InvalidParameterError(error, "path", self.name) from None


@dataclass(frozen=True)
class _QueryReader:
    """Reads all query parameters into one model. The last value of a repeated parameter counts."""

    model: type[BaseModel]

    def __call__(self, request: Request) -> object:
        try:
            return self.model.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise _InvalidParameterError(error, "query") from None
