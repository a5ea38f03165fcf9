"""Turns every error into an answer with RFC 9457 problem details. Maps the error tree to HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Scope

from app.errors import (
    FieldError,
    InvalidRequestError,
    MalformedBodyError,
    MethodNotAllowedError,
    NotFoundError,
    OneshotError,
    RequestError,
)
from app.telemetry.logs import get_logger
from oneshot_client.answers import FieldProblem, Problem
from oneshot_client.wire import PROBLEM_PREFIX

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


def problem_response(scope: Scope, error: OneshotError) -> JSONResponse:
    """The answer for `error`. The detail of an error that is not `public` goes to the log only."""
    state = scope.get("state", {})
    detail = (
        error.detail if error.public else "Something went wrong on the server; its log has it under this request id."
    )
    problem = Problem(
        type=PROBLEM_PREFIX + error.slug,
        title=error.title,
        status=error.status,
        detail=detail,
        instance=scope.get("raw_path", b"").decode("ascii", "replace") or scope["path"],
        request_id=state.get("request_id", ""),
        errors=[FieldProblem(loc=list(e.loc), message=e.message, kind=e.kind) for e in error.field_errors] or None,
    )
    state["problem"] = error.slug
    if not error.public:
        log.error("request_failed", slug=error.slug, detail=error.detail, exc_info=error)
    return JSONResponse(
        problem.model_dump(exclude_none=True), error.status, headers=dict(error.headers), media_type=MEDIA_TYPE
    )


def install_handlers(app: FastAPI) -> None:
    """Answer every expected error of the application with a problem. The middleware handles unexpected ones."""
    app.add_exception_handler(OneshotError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OneshotError)  # noqa: S101 - starlette chose this handler by the class
    return problem_response(request.scope, error)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    response = problem_response(request.scope, _of_status(error, request))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


def _of_status(error: HTTPException, request: Request) -> OneshotError:
    match error.status_code:
        case 404:
            return NotFoundError("There is nothing at this path; /docs lists what there is.")
        case 405:
            return MethodNotAllowedError(f"{request.method} is not possible here.")
        case 400:
            return MalformedBodyError(str(error.detail))
        case status if status < 500:
            return RequestError(str(error.detail))
        case _:
            return OneshotError(str(error.detail))


def invalid_fields(errors: Sequence[Any]) -> InvalidRequestError:
    """The error for pydantic's validation errors."""
    found = [
        FieldError(tuple(error["loc"]), str(error["msg"]).removeprefix("Value error, "), str(error["type"]))
        for error in errors
    ]
    detail = "; ".join(f"{'.'.join(map(str, error.loc[1:] or error.loc))}: {error.message}" for error in found)
    return InvalidRequestError(detail, found)
