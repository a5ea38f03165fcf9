"""Whether requests can be served now: what a load balancer asks before it sends any."""

from __future__ import annotations

import asyncio
import time

from app.errors import OneshotError
from app.lifecycle import Lifecycle
from app.models import Models
from app.store.base import Store
from app.workers import WorkPool

#: A probe of the store is good for this long: it is a durable write, and may be asked for by anybody.
_FRESH_SECONDS = 2.0
#: How long an answer waits for the probe. A store that is only busy gives its result to a later answer.
_PATIENCE_SECONDS = 2.0


class Health:
    """Answers from the network's thread, the store and the process's life. For one event loop."""

    def __init__(self, lifecycle: Lifecycle, models: Models, store: Store, storing: WorkPool) -> None:
        self._lifecycle = lifecycle
        self._models = models
        self._store = store
        self._storing = storing
        self._probe: asyncio.Task[str | None] | None = None
        self._probed = -_FRESH_SECONDS
        self._store_problem: str | None = None

    async def not_ready_because(self) -> str | None:
        """Why requests can't be served, or None."""
        if self._lifecycle.draining:
            return "The service is shutting down."
        if self._store.damage is not None:  # the log says what it is
            return "The store is damaged."
        return self._models.primary.batcher.not_ready_because or await self._why_not_writable()

    async def _why_not_writable(self) -> str | None:
        if self._probe is None and time.monotonic() - self._probed >= _FRESH_SECONDS:
            self._probe = asyncio.create_task(self._write())
        if self._probe is not None:
            await asyncio.wait([self._probe], timeout=_PATIENCE_SECONDS)
        return self._store_problem

    async def _write(self) -> str | None:
        try:
            await self._storing.run(self._store.check_writable)
            self._store_problem = None
        except OneshotError as error:
            self._store_problem = f"The store can't be written: {error.detail if error.public else error.title}"
        finally:
            self._probed = time.monotonic()
            self._probe = None
        return self._store_problem
