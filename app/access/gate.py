"""What a key allows, and the gate that authenticates requests and counts them against quotas."""

from __future__ import annotations

import math
import time
from functools import cached_property

from app.access.attempts import Attempts
from app.access.quotas import Counting
from app.api_key import Key, Scope, fits, id_of
from app.concurrency.thread_pool import WorkPool
from app.errors import ForbiddenError, StoreUnavailableError, UnauthorizedError
from app.pace import PACE, Pace
from app.settings import Settings
from app.store.keys import KeyStore
from app.telemetry.worker_metrics import shared_folder

#: How long known keys are still accepted while the store is unavailable.
_OUTAGE_SECONDS = 600.0


class Access:
    """What one request may do. Without a key (keys are off) it may do everything."""

    def __init__(self, key: Key | None = None) -> None:
        self.key = key

    def sees(self, gallery: str) -> bool:
        """Whether the request may use the gallery."""
        return self.key is None or self.key.opens(gallery)

    def enter(self, gallery: str) -> None:
        """Raise ForbiddenError unless the request may use the gallery (whether or not it exists)."""
        if not self.sees(gallery):
            raise ForbiddenError(f"This key is not for gallery {gallery!r}.")

    def need(self, scope: Scope) -> None:
        """Raise ForbiddenError unless the key has the scope."""
        if self.key is not None and not self.key.may(scope):
            raise ForbiddenError(f"This key lacks the scope {scope.value!r}.")

    def need_all_galleries(self) -> None:
        """Raise ForbiddenError unless the key is for all galleries."""
        if self.key is not None and self.key.galleries is not None:
            raise ForbiddenError("This key is not for all galleries.")


class Gate:
    """Authenticates requests, and counts them over all workers of a server. For one event loop."""

    def __init__(self, settings: Settings, keys: KeyStore, checking: WorkPool, pace: Pace = PACE) -> None:
        self.asks = settings.api_keys == "on"
        self._keys, self._checking = keys, checking
        self._rate, self._concurrency = settings.key_rate, settings.key_concurrency
        self._freshness = pace.key_freshness
        self._known: dict[str, Key] = {}
        self._attempts = Attempts()
        self._read_at = self._fresh_at = -math.inf

    async def find(self, texts: set[str], address: str) -> Key:
        """Return the valid key in `texts`, which must contain exactly one.

        Raises UnauthorizedError, StoreUnavailableError, and RateLimitedError after too many wrong keys. A valid key is
        never refused because of others' wrong ones: all clients may share a proxy's address.
        """
        if not texts:
            raise UnauthorizedError("Send a key: 'Authorization: Bearer ...' or 'X-API-Key: ...'.")
        if len(texts) > 1:
            raise UnauthorizedError("Two different keys were sent.")
        [text] = texts
        if time.monotonic() - self._read_at >= self._freshness:
            await self._checking.run(self._read_keys_once)
        key = self._known.get(id_of(text) or "")
        if not fits(key, text) or key is None or not key.valid():
            self._attempts.failed(address)
            raise UnauthorizedError("This key is not valid.")
        return key

    def _read_keys_once(self) -> None:
        if time.monotonic() - self._read_at >= self._freshness:  # no other call has while this waited for the thread
            self.read_keys()

    def read_keys(self) -> None:
        """Read all keys from the store. Known keys stay in use for a while when it is unavailable. Blocks."""
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
        return Counting(shared_folder())  # starts a thread, so only with keys on

    def close(self) -> None:
        """End the counting thread, if it was started."""
        if "_quotas" in vars(self):
            self._quotas.close()

    async def begin(self, key: Key) -> None:
        """Count the start of a request; `end` must follow. Raises RateLimitedError, StoreUnavailableError."""
        await self._quotas.begin(key.id, key.rate or self._rate, key.concurrency or self._concurrency)

    def end(self, key: Key) -> None:
        """Count the end of a request."""
        self._quotas.end(key.id)
