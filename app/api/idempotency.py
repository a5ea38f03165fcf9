"""`Idempotency-Key`: a request that brings one is done once, however often it is sent."""

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
#: More than this is digested in a thread.
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
    """Gathers what a request asks for, to tell it from another one that comes with the same key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._digest = hashlib.sha256()

    async def add(self, *parts: str | bytes | bytearray) -> None:
        """Add what is asked for, each part told from the next."""
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
        """Pass a body on and add it, in whatever pieces it comes. Nothing else may be added after it."""
        async for chunk in body:
            self._digest.update(chunk)
            yield chunk

    def once(self) -> Once:
        """The request, as the store tells it from others."""
        return Once(self._key, self._digest.hexdigest())


def fingerprint_of(request: Request) -> Fingerprint | None:
    """What will tell the request from others, None when it brings no key. Raises InvalidRequestError.

    Keys of different API keys are different, so that nobody hears by a guess what somebody else was answered.
    """
    sent = request.headers.getlist(IDEMPOTENCY_KEY)
    if not sent:
        return None
    if len(sent) > 1 or not _KEY.fullmatch(sent[0]):
        message = "must be given once, as 1 to 255 letters, digits and signs of ASCII"
        raise InvalidRequestError.at("header", IDEMPOTENCY_KEY, message=message)
    who: str = getattr(request.state, KEY_ID, "")
    return Fingerprint(hashlib.sha256(f"{who} {sent[0]}".encode("ascii")).hexdigest())
