"""Reads the store's change log part by part, and detects when it no longer reaches back far enough."""

from __future__ import annotations

from collections.abc import Iterator

from app.store.base import Changes, Store

#: Entries of the log read at once.
AT_ONCE = 10_000


class LogCutError(Exception):
    """The log no longer reaches back to the point from which to continue."""


def changes_since(store: Store, seq: int, gallery_id: int | None = None, at_once: int = AT_ONCE) -> Iterator[Changes]:
    """Yield the changes after the point `seq` of the log, about `at_once` entries at a time. Raises LogCutError."""
    known: int | None = 0 if seq else None  # a reader that starts at 0 has missed no earlier deletion
    while True:
        changes = store.changes_since(seq, gallery_id, at_once)
        known = changes.pruned if known is None else known
        if seq < changes.pruned != known:
            raise LogCutError
        yield changes
        if sum(1 + len(gallery.classes) for gallery in changes.galleries) < at_once:
            return
        seq = changes.seq
