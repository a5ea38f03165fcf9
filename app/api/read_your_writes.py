"""Versions: a write's answer has the position of the store's change log; a request may require one at least as high.

So a client that writes through one process immediately reads its writes through any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import Scope

from app.api.policy import route_policy, with_policies
from app.errors import BehindError, InvalidRequestError
from oneshot_client.wire import MIN_VERSION, VERSION, whole_number

if TYPE_CHECKING:
    from app.service.service import Service

MAX_VERSION = 2**63 - 1
#: Pauses in seconds. An answered version is in the store; this process only lags if the store is unavailable or behind.
_PAUSES_S = (0.0, 0.01, 0.03, 0.06, 0.15)


async def reach(service: Service, scope: Scope) -> None:
    """Wait briefly until this process sees the version that the request requires.

    Raises BehindError; InvalidRequestError if it is not a version, or one that the store has never reached.
    """
    text = Headers(scope=scope).get(MIN_VERSION)
    if text is None:
        return
    version = whole_number(text)
    if version is None or version > MAX_VERSION:
        raise InvalidRequestError.at("header", MIN_VERSION, message="is no version")
    for pause in _PAUSES_S:
        await asyncio.sleep(pause)
        if await service.storing.run(lambda: service.index.reaches(version)):
            return
    if not service.index.age() and version > await service.storing.run(service.store.head):
        raise InvalidRequestError.at("header", MIN_VERSION, message="is a version that nothing was written with")
    raise BehindError(f"This server does not see version {version} yet.")


def tell_version(scope: Scope, status: int, headers: MutableHeaders) -> None:
    """Add version headers to an answer: a write's version, or the age of a view whose store is unavailable."""
    policy = route_policy(scope.get("route"))
    if status >= 400 or policy is None or not (policy.writes or policy.viewed):
        return
    service: Service = scope["app"].state.service
    if policy.writes:
        headers[VERSION] = str(service.store.written())
    elif age := service.index.age():
        headers["Age"] = str(max(1, round(age)))


def describe_versions(schema: dict[str, Any], routes: Iterable[BaseRoute]) -> None:
    """Add the headers of requests (all that may be refused as invalid) and of answers to the OpenAPI schema."""
    number = {"type": "integer", "minimum": 0, "maximum": MAX_VERSION}
    asked = f"See at least this version: the `{VERSION}` of the answer to a write, through whichever server."
    parameter = {"name": MIN_VERSION, "in": "header", "required": False, "description": asked, "schema": number}
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "422" in operation["responses"]:
                operation.setdefault("parameters", []).append(parameter)
    version = {
        "description": f"What to send as `{MIN_VERSION}` to see this write through any server.",
        "schema": number,
    }
    age = {"description": "Seconds since the store was last heard of, while it is away.", "schema": number}
    for route, policy in with_policies(routes):
        name, header = (VERSION, version) if policy.writes else ("Age", age)
        if policy.writes or policy.viewed:
            for method in route.methods:
                _describe_header(schema["paths"][route.path_format][method.lower()], name, header)


def _describe_header(operation: dict[str, Any], name: str, header: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            answer.setdefault("headers", {})[name] = header
