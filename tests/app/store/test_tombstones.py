"""The number of tombstones in the log is bounded; a follower that missed more reloads the gallery."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from app.gallery.index import GalleryIndex
from app.gallery.segment_files import Snapshots
from app.store import OnConflict, SqlStore
from app.store.base import Changes
from testing.manifests import make_manifest
from testing.stores import support
from tests.app.store.test_migrations import at_revision

KEPT = 5
OURS = make_manifest("l2", 2)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.log.KEPT_TOMBSTONES", KEPT)


def entries(path: Path) -> tuple[int, int]:
    """The number of entries in the log, and of tombstones."""
    connection = sqlite3.connect(path)
    try:
        counts = "SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM tombstones)"
        found: tuple[int, int] = connection.execute(counts).fetchone()
    finally:
        connection.close()
    return found


def enroll(store: SqlStore, *labels: str, gallery: str = "g") -> None:
    items = [support(label, (number, 1), digest=OURS.digest) for number, label in enumerate(labels)]
    store.enroll(gallery, items, OnConflict.REPLACE)


def test_the_log_stays_as_small_as_the_gallery(store: SqlStore, path: Path):
    enroll(store, "stays")
    for number in range(4 * KEPT):
        enroll(store, f"c{number}")
        store.remove_class("g", f"c{number}")
        enroll(store, "a", gallery=f"gallery {number}")
        store.remove_gallery(f"gallery {number}")
    assert entries(path) == (2 + KEPT, KEPT)  # the gallery, its class and the latest deletions
    changes = store.changes_since(0)
    assert [info.name for info, _ in store.gallery_infos()] == ["g"]
    assert changes.pruned > 0
    assert store.changes_since(changes.seq).galleries == []


def test_a_follower_within_reach_catches_up_and_one_beyond_begins_anew(store: SqlStore, monkeypatch):
    enroll(store, *(f"c{number}" for number in range(30)))
    index = GalleryIndex(store, OURS)
    begun: list[int] = []
    read = store.changes_since

    def watched(seq: int, *more: Any) -> Changes:
        begun.append(seq)
        return read(seq, *more)

    monkeypatch.setattr(store, "changes_since", watched)
    assert index.size("g") == 30
    for number in range(KEPT):
        store.remove_class("g", f"c{number}")
    assert index.size("g") == 25
    assert begun.count(0) == 1
    for number in range(KEPT, 4 * KEPT):
        store.remove_class("g", f"c{number}")
    assert index.size("g") == 10
    assert begun.count(0) == 2
    assert [match.label for match in index.find("g", index.vectors("g", "c20")[0], 1).matches] == ["c20"]


def test_a_segment_from_before_the_log_s_reach_is_built_anew(store: SqlStore, path: Path, monkeypatch):
    monkeypatch.setattr("app.gallery.index.SEGMENT_FROM", 10)
    enroll(store, *(f"c{number}" for number in range(40)))

    def opened() -> GalleryIndex:
        return GalleryIndex(store, OURS, snapshots=Snapshots(path.parent / "index", store))

    assert opened().size("g") == 40
    for number in range(3 * KEPT):
        store.remove_class("g", f"c{number}")
    index = opened()
    assert index.size("g") == 40 - 3 * KEPT
    assert {match.label for match in index.find("g", index.vectors("g", "c20")[0], 40).matches} == {
        f"c{number}" for number in range(3 * KEPT, 40)
    }


def test_a_view_that_is_being_read_from_nothing_is_not_disturbed_by_old_deletions(store: SqlStore):
    enroll(store, *(f"c{number}" for number in range(30)))
    for number in range(3 * KEPT):
        store.remove_class("g", f"c{number}")
    assert GalleryIndex(store, OURS, at_once=4).size("g") == 30 - 3 * KEPT


def test_an_older_store_s_deletions_are_found_and_bounded(path: Path):
    at_revision(path, "0004")
    connection = sqlite3.connect(path)
    for number in range(100, 120):
        connection.execute("INSERT INTO changes (gallery_id, class_id, at) VALUES (7, ?, '2026-01-01')", (number,))
    connection.commit()
    connection.close()
    opened = SqlStore(path)
    try:
        assert entries(path) == (22, 20)
        opened.remove_class("g", "a")
        assert entries(path) == (1 + KEPT, KEPT)
    finally:
        opened.close()
