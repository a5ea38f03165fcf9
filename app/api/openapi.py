"""Additions to the OpenAPI schema that FastAPI can't derive from the routes: streamed bodies, and problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from app.api.problems import MEDIA_TYPE
from app.api.read_your_writes import describe_versions
from app.errors import (
    BehindError,
    DeadlineExceededError,
    ForbiddenError,
    ForeignOriginError,
    InvalidRequestError,
    MisdirectedRequestError,
    NotReadyError,
    OneshotError,
    OverloadedError,
    PayloadTooLargeError,
    RateLimitedError,
    StoreUnavailableError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UploadTimeoutError,
)
from oneshot_client.answers import Problem
from oneshot_client.wire import PROBLEM_PREFIX

Json = dict[str, Any]

FILE: Json = {"type": "string", "format": "binary"}
FILES: Json = {"type": "array", "items": FILE, "minItems": 1}

#: Problems that any route with an image may answer.
IMAGE_PROBLEMS: tuple[type[OneshotError], ...] = (
    PayloadTooLargeError,
    UploadTimeoutError,
    UnsupportedMediaTypeError,
    OverloadedError,
    NotReadyError,
)


def text(meaning: str, example: str, **schema: Any) -> Json:
    """A text field of a form."""
    return {"type": "string", "description": meaning, "examples": [example], **schema}


def form(required: list[str], **fields: Json) -> Json:
    """A multipart/form-data body, as `openapi_extra` of a route."""
    schema = {"type": "object", "properties": fields, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def with_raw_image(body: Json) -> Json:
    """The same body, or the raw bytes of one image."""
    raw = {"image/*": {"schema": FILE}, "application/octet-stream": {"schema": FILE}}
    content = {**body["requestBody"]["content"], **raw}
    return {"requestBody": {**body["requestBody"], "content": content}}


def json_body(model: type[BaseModel]) -> Json:
    """An application/json body that the route reads itself, to enforce its size limit."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def problems(*errors: type[OneshotError]) -> dict[int | str, Json]:
    """Declare the problem answers of a route, including those that any route may give."""
    declared: dict[int | str, Json] = {}
    everywhere: tuple[type[OneshotError], ...] = (
        UnauthorizedError,
        ForbiddenError,
        ForeignOriginError,
        MisdirectedRequestError,
        RateLimitedError,
        NotReadyError,
        StoreUnavailableError,
        BehindError,
        DeadlineExceededError,
        OneshotError,
    )
    for error in errors + everywhere:
        phrase = HTTPStatus(error.status).phrase
        answer = declared.setdefault(error.status, {"description": phrase, "content": {MEDIA_TYPE: _content()}})
        answer["content"][MEDIA_TYPE]["examples"][error.slug] = _example(error)
    return dict(sorted(declared.items(), key=lambda item: item[0]))


def install_openapi(app: FastAPI) -> None:
    """Add the Problem component, which `problems` refers to, to the schema of `app`."""

    def build() -> Json:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            components.update(own.pop("$defs", {}))
            components["Problem"] = own
            describe_versions(schema, app.routes)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # the documented way to extend the schema


def _content() -> Json:
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}


def _example(error: type[OneshotError]) -> Json:
    value = {
        "type": PROBLEM_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": (error.__doc__ or "").splitlines()[0],
        "instance": "/classify",
        "request_id": "9b2f6c1e0d3a4f5b8c7d6e5f4a3b2c1d",
    }
    if issubclass(error, InvalidRequestError):
        value["errors"] = [{"loc": ["body", "label"], "message": "is missing", "kind": "missing"}]
    return {"summary": error.title, "value": value}
