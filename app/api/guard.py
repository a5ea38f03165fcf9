"""Access control: every request is checked here before more than its head is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import Request
from fastapi.security import APIKeyHeader, HTTPBearer

from app.access.gate import Access
from app.api.deps import started
from app.api.peers import KEY_ID, peer
from app.api.policy import GalleryIn, Policy
from app.api.read_your_writes import reach
from app.api_key import Key, Scope
from app.names import DEFAULT_GALLERY
from app.service.service import Service

BEARER, HEADER = HTTPBearer(auto_error=False), APIKeyHeader(name="X-API-Key", auto_error=False)
_EVERYTHING = Access()


@asynccontextmanager
async def admitted(request: Request, policy: Policy) -> AsyncIterator[None]:
    """Check a request's access, set `request.state.access`, and wait for the version that it asks for.

    Raises AccessError in one of its forms, what `reach` raises, and NotReadyError until the database is available.
    """
    request.state.access = _EVERYTHING
    if policy.scope is None:
        yield
        return
    service = started(request.app)
    if not service.gate.asks:
        await reach(service, request.scope)
        yield
        return
    key = await _enter(request, service, policy.scope, policy.gallery)
    await service.gate.begin(key)
    try:
        await reach(service, request.scope)
        yield
    finally:
        service.gate.end(key)


async def _enter(request: Request, service: Service, scope: Scope, where: GalleryIn) -> Key:
    """The request's key, if it has the scope and allows the gallery.

    Raises UnauthorizedError, ForbiddenError, RateLimitedError.
    """
    bearer, header = await BEARER(request), await HEADER(request)
    texts = {text for text in (bearer.credentials if bearer else None, header) if text is not None}
    key = await service.gate.find(texts, peer(request.scope))
    structlog.contextvars.bind_contextvars(key=key.id)
    setattr(request.state, KEY_ID, key.id)
    access = request.state.access = Access(key)
    access.need(scope)
    _check_gallery(request, access, where)
    return key


def _check_gallery(request: Request, access: Access, where: GalleryIn) -> None:
    if where is GalleryIn.ALL:
        access.need_all_galleries()
    elif where is GalleryIn.PATH:
        access.enter(request.path_params["name"])
    elif where is GalleryIn.QUERY:
        for gallery in request.query_params.getlist("gallery") or [DEFAULT_GALLERY]:
            access.enter(gallery)
