"""Readiness: whether requests can be served now, as load balancers ask."""

from __future__ import annotations

import asyncio
import math
import time

from app.concurrency.thread_pool import WorkPool
from app.errors import OneshotError
from app.lifecycle import Lifecycle
from app.pace import PACE, Pace
from app.recognition.running_models import Models
from app.store.base import Store
from app.telemetry.logs import get_logger

log = get_logger(__name__)


class Health:
    """Derives readiness from the network's thread, the store and the process's state. For one event loop."""

    def __init__(
        self, lifecycle: Lifecycle, models: Models, store: Store, writing: WorkPool, pace: Pace = PACE
    ) -> None:
        self._lifecycle = lifecycle
        self._models = models
        self._store = store
        self._writing = writing
        self._pace = pace
        self._probe: asyncio.Task[None] | None = None
        self._probed = self._began = -math.inf
        self._store_problem: str | None = None

    async def not_ready_because(self) -> str | None:
        """Why requests can't be served, or None."""
        if self._lifecycle.draining:
            return "The service is shutting down."
        if self._store.damage is not None:  # the log has the details
            return "The store is damaged."
        return self._models.primary.batcher.not_ready_because or await self._why_not_writable()

    async def _why_not_writable(self) -> str | None:
        now = time.monotonic()
        if self._probe is None and now - self._probed >= self._pace.probe_freshness:
            self._began, self._probe = now, asyncio.create_task(self._write())
        if self._probe is not None:
            await asyncio.wait([self._probe], timeout=self._pace.probe_patience)
        if self._probe is not None and (silent := time.monotonic() - self._began) > self._pace.store_silence:
            return f"The store has not answered for {silent:.0f} seconds."
        return self._store_problem

    async def _write(self) -> None:
        try:
            await self._writing.run(self._store.check_writable)
            self._store_problem = None
        except OneshotError as error:
            self._store_problem = f"The store can't be written: {error.detail if error.public else error.title}"
        except Exception:
            log.exception("probe_failed")
            self._store_problem = "Whether the store can be written can't be told; the log says why."
        finally:
            self._probed = time.monotonic()
            self._probe = None
