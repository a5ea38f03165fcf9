"""Remembers that a store was found damaged, for all processes that have it open and after they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import StoreCorruptError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

#: Suffix of the file's name, after that of the store.
DAMAGED = "-damaged"
#: Most that the clock of file times and `time.time` differ.
_CLOCKS_DIFFER_SECONDS = 0.1


class Damage:
    """The damage found: in a file beside the store's; in memory if there is none or it can't be written."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._kept: str | None = None
        self.watching = False  # errors while opening a file that may be no store are not recorded

    @property
    def found(self) -> str | None:
        """What is damaged, or None. Fast enough for the event loop."""
        if self._file is not None:
            with suppress(OSError):
                return self._file.read_text("utf-8").strip()
        return self._kept

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Record the damage when the block raises StoreCorruptError."""
        try:
            yield
        except StoreCorruptError as error:
            if self.watching:
                self.note(str(error))
            raise

    def note(self, reason: str) -> None:
        """Record this, unless some damage is known already."""
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
        """Forget damage found before that time: an inspection that began then found the whole store intact."""
        with suppress(OSError):
            if self._file is not None and self._file.stat().st_mtime < before - _CLOCKS_DIFFER_SECONDS:
                self._file.unlink()
                log.info("store_whole_again")
        self._kept = None
