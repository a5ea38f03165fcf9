"""Reading the store's change log part by part, and telling when it no longer reaches back far enough."""

from __future__ import annotations

from collections.abc import Iterator

from app.store.base import Changes, Store

#: Entries of the log that are read at once.
AT_ONCE = 10_000


class LogCutError(Exception):
    """The log no longer reaches back to where reading it would have to go on."""


def changes_since(store: Store, seq: int, gallery_id: int | None = None, at_once: int = AT_ONCE) -> Iterator[Changes]:
    """Yield what changed after the point `seq` of the log, about `at_once` entries at a time. Raises LogCutError."""
    known: int | None = 0 if seq else None  # who begins with nothing has missed no deletion before
    while True:
        changes = store.changes_since(seq, gallery_id, at_once)
        known = changes.pruned if known is None else known
        if seq < changes.pruned != known:
            raise LogCutError
        yield changes
        if sum(1 + len(gallery.classes) for gallery in changes.galleries) < at_once:
            return
        seq = changes.seq
