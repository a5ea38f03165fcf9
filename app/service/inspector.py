"""Inspects the store for damage in the background, to find it before the damaged data is requested.

Of all processes on a data folder, one inspects.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from app.errors import StoreCorruptError, UnavailableError
from app.home.lock import alone
from app.pace import PACE, Pace
from app.store import SqlStore
from app.telemetry.logs import get_logger

log = get_logger(__name__)

LOCK_FILE = "inspect.lock"
#: Pause after each read, as a multiple of its duration. Inspection then takes a fifth of a core and of the disk.
_REST = 4.0
_PATIENCE = 100


class Inspector:
    """A thread that inspects the whole store at intervals."""

    def __init__(self, home: Path, store: SqlStore, pace: Pace = PACE) -> None:
        self._pace = pace
        self._lock = home / LOCK_FILE
        self._store = store
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inspect", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._pace.inspection_first):
            try:
                with alone(self._lock) as mine:
                    while mine:  # held as long as this process lives: no other needs to inspect
                        self._inspect()
                        if self._stopping.wait(self._pace.inspection_every):
                            return
            except Exception:
                log.exception("inspection_failed")

    def _inspect(self) -> None:
        began = time.monotonic()
        try:
            whole = self._store.inspect(self._rest)
        except StoreCorruptError as error:  # the store remembers it
            log.error("inspected", damage=str(error))
        except UnavailableError as error:
            if not self._stopping.is_set():
                log.warning("inspection_ended", reason=str(error))
        else:
            if whole:
                log.info("inspected", seconds=round(time.monotonic() - began, 1))

    def _rest(self, seconds: float) -> bool:
        return not self._stopping.wait(_REST * seconds)

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        for _ in range(_PATIENCE):  # an interrupt just before a statement begins has no effect
            self._store.end_inspection()
            self._thread.join(0.1)
            if not self._thread.is_alive():
                return
