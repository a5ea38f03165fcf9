"""Looking for damage of the store in the background, so that it is known before what is damaged is asked for.

Of all processes on a data folder, one looks.
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
#: So many times as long as it reads, it rests: it takes a fifth of a core and of the disk.
_REST = 4.0
_PATIENCE = 100


class Inspector:
    """A thread that looks at the whole store again and again."""

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
                    while mine:  # as long as this process lives: nobody else needs to
                        self._inspect()
                        if self._stopping.wait(self._pace.inspection_every):
                            return
            except Exception:
                log.exception("inspection_failed")

    def _inspect(self) -> None:
        began = time.monotonic()
        try:
            whole = self._store.inspect(self._rest)
        except StoreCorruptError as error:  # which the store remembers
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
        for _ in range(_PATIENCE):  # once may be just before a statement begins
            self._store.end_inspection()
            self._thread.join(0.1)
            if not self._thread.is_alive():
                return
