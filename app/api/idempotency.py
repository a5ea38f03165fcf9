"""`Idempotency-Key`: a request with this header is done once, however often it is sent."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.requests import Request

from app.api.peers import KEY_ID
from app.errors import InvalidRequestError
from app.store.base import Once
from oneshot_client.wire import IDEMPOTENCY_KEY

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
#: More bytes than this are hashed in a thread.
_SMALL_BYTES = 65_536

#: The header, for the OpenAPI schema of a route.
PARAMETER: dict[str, Any] = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": "A name for this request that no other one has. Sent again with it, the request is not done again; "
    "its answer is that of the first time.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


class Fingerprint:
    """Hashes the content of a request, to distinguish it from another one with the same key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._digest = hashlib.sha256()

    async def add(self, *parts: str | bytes | bytearray) -> None:
        """Add parts of the content. Each is hashed with its length, so their boundaries count."""
        data = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]
        if sum(map(len, data)) <= _SMALL_BYTES:
            self._add(data)
        else:
            await asyncio.to_thread(self._add, data)

    def _add(self, parts: Iterable[bytes | bytearray]) -> None:
        for part in parts:
            self._digest.update(len(part).to_bytes(8, "big"))
            self._digest.update(part)

    async def passing(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hash a body while passing it on, independent of its chunks. Nothing may be added after it."""
        async for chunk in body:
            self._digest.update(chunk)
            yield chunk

    def once(self) -> Once:
        """The key and the hash of the request, for the store."""
        return Once(self._key, self._digest.hexdigest())


def fingerprint_of(request: Request) -> Fingerprint | None:
    """A fingerprint for the request, None without the header. Raises InvalidRequestError.

    Idempotency keys of different API keys never match, so a client can't obtain another's answer by guessing.
    """
    sent = request.headers.getlist(IDEMPOTENCY_KEY)
    if not sent:
        return None
    if len(sent) > 1 or not _KEY.fullmatch(sent[0]):
        message = "must be given once, as 1 to 255 letters, digits and signs of ASCII"
        raise InvalidRequestError.at("header", IDEMPOTENCY_KEY, message=message)
    who: str = getattr(request.state, KEY_ID, "")
    return Fingerprint(hashlib.sha256(f"{who} {sent[0]}".encode("ascii")).hexdigest())
