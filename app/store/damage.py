"""Remembering that a store was found damaged: for all processes that have it open, and past their end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import StoreCorruptError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

#: What the file's name ends with, after that of the store.
DAMAGED = "-damaged"
#: Between the clock that files are dated by and the other one.
_CLOCKS_DIFFER_SECONDS = 0.1


class Damage:
    """What was found: in a file beside the store's own; in memory where there is none, or it can't be written."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._kept: str | None = None
        self.watching = False  # a file that was never opened as a store is nobody's damage

    @property
    def found(self) -> str | None:
        """What is damaged, or None; quick enough for the event loop."""
        if self._file is not None:
            with suppress(OSError):
                return self._file.read_text("utf-8").strip()
        return self._kept

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Remember it when the block finds the store damaged."""
        try:
            yield
        except StoreCorruptError as error:
            if self.watching:
                self.note(str(error))
            raise

    def note(self, reason: str) -> None:
        """Remember this, unless something is known already."""
        if self.found is not None:
            return
        log.error("store_damaged", reason=reason)
        try:
            if self._file is not None:
                self._file.write_text(f"{reason}\n", "utf-8")
                return
        except OSError as error:
            log.warning("damage_not_kept", reason=str(error))
        self._kept = reason

    def forget(self, before: float) -> None:
        """A look at all of the store that began at that time found it whole, so what was known then is mended."""
        with suppress(OSError):
            if self._file is not None and self._file.stat().st_mtime < before - _CLOCKS_DIFFER_SECONDS:
                self._file.unlink()
                log.info("store_whole_again")
        self._kept = None
