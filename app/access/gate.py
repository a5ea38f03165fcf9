"""Who may ask for what: every request passes `guard` before anything of it is read but its head.

What an endpoint needs stands in one table; one that isn't in it needs a key with scope admin for all galleries. Pages
and their files, which are no part of the API, the probes and the schema need no key.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from enum import Enum, auto
from functools import cached_property
from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.access.attempts import Attempts
from app.access.quotas import Counting
from app.api.peers import KEY_ID, peer
from app.api.read_your_writes import reach
from app.api_key import Key, Scope, fits, id_of
from app.concurrency.thread_pool import WorkPool
from app.errors import ForbiddenError, StoreUnavailableError, UnauthorizedError
from app.names import DEFAULT_GALLERY
from app.service.await_store import started
from app.settings import Settings
from app.store.keys import KeyStore
from app.telemetry.worker_metrics import shared_folder


class Where(Enum):
    """What a request names its gallery by."""

    NONE = auto()  # it is about none
    ALL = auto()  # it is about all
    OWN = auto()  # the route asks, when it knows
    QUERY = auto()  # the parameter `gallery`
    PATH = auto()  # the `name` in the path


_READ, _ENROL, _ADMIN = Scope.READ, Scope.ENROL, Scope.ADMIN
_RULES: dict[tuple[str, str], tuple[Scope, Where]] = {
    ("POST", "/enroll"): (_ENROL, Where.OWN),
    ("POST", "/enroll/batch"): (_ENROL, Where.QUERY),
    ("POST", "/classify"): (_READ, Where.QUERY),
    ("POST", "/verify"): (_READ, Where.QUERY),
    ("POST", "/embed"): (_READ, Where.NONE),
    ("GET", "/classes"): (_READ, Where.QUERY),
    ("GET", "/classes/{label}"): (_READ, Where.QUERY),
    ("GET", "/classes/{label}/image"): (_READ, Where.QUERY),
    ("PATCH", "/classes/{label}"): (_ENROL, Where.QUERY),
    ("DELETE", "/classes/{label}"): (_ENROL, Where.QUERY),
    ("GET", "/galleries"): (_READ, Where.OWN),
    ("DELETE", "/galleries/{name}"): (_ADMIN, Where.PATH),
    ("GET", "/galleries/{name}/map"): (_READ, Where.PATH),
    ("GET", "/galleries/{name}/calibration"): (_READ, Where.PATH),
    ("POST", "/galleries/{name}/calibrate"): (_ADMIN, Where.PATH),
    ("DELETE", "/galleries/{name}/calibration"): (_ADMIN, Where.PATH),
    ("GET", "/model"): (_READ, Where.NONE),
    ("GET", "/metrics"): (_READ, Where.ALL),
}
_OPEN = frozenset({"/livez", "/readyz"})
#: How long a revoked key may still open something.
_FRESH_SECONDS = 0.5
#: How long keys that were valid when the store went away open what doesn't need the store.
_OUTAGE_SECONDS = 600.0


class Access:
    """What one request may do. Without a key (none are asked for) everything."""

    def __init__(self, key: Key | None = None) -> None:
        self.key = key

    def sees(self, gallery: str) -> bool:
        """Whether the gallery is open to it."""
        return self.key is None or self.key.opens(gallery)

    def enter(self, gallery: str) -> None:
        """Raise ForbiddenError unless the gallery is open to it (whether or not it exists)."""
        if not self.sees(gallery):
            raise ForbiddenError(f"This key is not for gallery {gallery!r}.")

    def need(self, scope: Scope) -> None:
        """Raise ForbiddenError unless it has the scope."""
        if self.key is not None and not self.key.may(scope):
            raise ForbiddenError(f"This key lacks the scope {scope.value!r}.")

    def need_all_galleries(self) -> None:
        """Raise ForbiddenError unless it is for all galleries."""
        if self.key is not None and self.key.galleries is not None:
            raise ForbiddenError("This key is not for all galleries.")


class Gate:
    """Finds the key of a request, and counts what it asks, over all workers of a server. For one event loop."""

    def __init__(self, settings: Settings, keys: KeyStore, checking: WorkPool) -> None:
        self.asks = settings.api_keys == "on"
        self._keys, self._checking = keys, checking
        self._rate, self._concurrency = settings.key_rate, settings.key_concurrency
        self._known: dict[str, Key] = {}
        self._attempts = Attempts()
        self._read_at = self._fresh_at = -_FRESH_SECONDS

    async def find(self, texts: set[str], address: str) -> Key:
        """The valid key of this text. Raises UnauthorizedError, or RateLimitedError for wrong ones without end.

        A valid key is never refused for others' wrong ones, as all clients may have the one address of a proxy.
        """
        if not texts:
            raise UnauthorizedError("Send a key: 'Authorization: Bearer ...' or 'X-API-Key: ...'.")
        if len(texts) > 1:
            raise UnauthorizedError("Two different keys were sent.")
        [text] = texts
        if time.monotonic() - self._read_at >= _FRESH_SECONDS:
            await self._checking.run(self._read_keys_once)
        key = self._known.get(id_of(text) or "")
        if not fits(key, text) or key is None or not key.valid():
            self._attempts.failed(address)
            raise UnauthorizedError("This key is not valid.")
        return key

    def _read_keys_once(self) -> None:
        if time.monotonic() - self._read_at >= _FRESH_SECONDS:  # nobody has while this waited for the thread
            self.read_keys()

    def read_keys(self) -> None:
        """Read all keys from the store; those that were known go on for a while when it is away. Blocks."""
        now = time.monotonic()
        try:
            self._known = {key.id: key for key in self._keys.all()}
            self._fresh_at = now
        except StoreUnavailableError:
            if not self._known or now - self._fresh_at > _OUTAGE_SECONDS:
                raise
        self._read_at = time.monotonic()

    @cached_property
    def _quotas(self) -> Counting:
        return Counting(shared_folder())  # which starts a thread, so only where keys are asked for

    def close(self) -> None:
        """End the thread that counts, where there is one."""
        if "_quotas" in vars(self):
            self._quotas.close()

    async def begin(self, key: Key) -> None:
        """Count a request of the key; `end` must follow. Raises RateLimitedError, StoreUnavailableError."""
        await self._quotas.begin(key.id, key.rate or self._rate, key.concurrency or self._concurrency)

    def end(self, key: Key) -> None:
        """Count the end of a request."""
        self._quotas.end(key.id)


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]
_Header = Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]


async def guard(request: Request, bearer: _Bearer, header: _Header) -> AsyncIterator[None]:
    """Let a request pass that may, note as `request.state.access` what it may see, and see what it wants to see."""
    request.state.access = Access()
    if _needs_none(request):
        yield
        return
    service = started(request.app)
    gate = service.gate
    if not gate.asks:
        await reach(service, request.scope)
        yield
        return
    texts = {text for text in (bearer.credentials if bearer else None, header) if text is not None}
    key = await gate.find(texts, peer(request.scope))
    structlog.contextvars.bind_contextvars(key=key.id)
    setattr(request.state, KEY_ID, key.id)
    access = request.state.access = Access(key)
    _judge(request, access)
    await gate.begin(key)
    try:
        await reach(service, request.scope)
        yield
    finally:
        gate.end(key)


def _needs_none(request: Request) -> bool:
    route = request.scope["route"]
    return route.path in _OPEN or (not route.include_in_schema and request.method in {"GET", "HEAD"})


def _judge(request: Request, access: Access) -> None:
    path = request.scope["route"].path.replace(":path}", "}")
    scope, where = _RULES.get((request.method, path), (Scope.ADMIN, Where.ALL))
    access.need(scope)
    if where is Where.ALL:
        access.need_all_galleries()
    elif where is Where.PATH:
        access.enter(request.path_params["name"])
    elif where is Where.QUERY:
        for gallery in request.query_params.getlist("gallery") or [DEFAULT_GALLERY]:
            access.enter(gallery)


async def get_access(request: Request) -> Access:
    """What the request may do."""
    access: Access = request.state.access
    return access


AccessDep = Annotated[Access, Depends(get_access)]
