"""Backups of data folders from older versions, and of galleries with segments."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from app.gallery.index import GalleryIndex
from app.gallery.segment_files import Snapshots
from app.home.backup import back_up, restore
from app.store import NewSupport, OnConflict, SqlStore
from testing.manifests import make_manifest
from testing.stores import put_new_store
from tests.app.store.test_migrations import REVISIONS, at_revision, sql_of

OURS = make_manifest("cosine", 8)
COUNT = 300


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_folder_of_every_earlier_schema_is_backed_up_as_it_is_and_restored(tmp_path: Path, revision: str):
    home, back = tmp_path / "home", tmp_path / "back"
    home.mkdir()
    at_revision(home / "oneshot.db", revision)
    before = sql_of(home / "oneshot.db")
    summary = back_up(home, tmp_path / "backup")
    assert (summary.galleries, summary.classes, summary.shots, summary.images) == (1, 1, 1, 1)
    assert sql_of(home / "oneshot.db") == before
    restore(tmp_path / "backup", back)
    store = SqlStore(back / "oneshot.db")
    try:
        assert store.read_image("g", "a") == (b"abc", "image/png")
        assert [shot.embedding.tolist() for shot in store.list_supports("g", "a")] == [[1.0, 2.0]]
    finally:
        store.close()


def index_of(store: SqlStore) -> GalleryIndex:
    index = GalleryIndex(store, OURS, snapshots=Snapshots(Path(store.name).parent / "index", store))
    deadline = time.monotonic() + 30
    while index.sizes() and (index.settling or not index.settled):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return index


def test_a_large_gallery_comes_back_with_all_its_vectors_and_a_segment_of_its_own(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("app.gallery.index.SEGMENT_FROM", 50)
    for module in ("segment", "segment_writer"):
        monkeypatch.setattr(f"app.gallery.{module}.EXACT_UP_TO", 100)
    vectors = np.random.default_rng(0).normal(size=(COUNT, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    home, back = tmp_path / "home", tmp_path / "back"
    home.mkdir()
    store = SqlStore(put_new_store(home / "oneshot.db"))
    items = [NewSupport(f"c{n}", b"image %d" % n, "image/png", v, OURS.digest) for n, v in enumerate(vectors)]
    store.enroll("g", items, OnConflict.REPLACE)
    index_of(store)
    store.remove_class("g", "c7")
    back_up(home, tmp_path / "backup")
    store.close()
    restore(tmp_path / "backup", back)
    assert not (back / "index").exists()  # a restored store rebuilds its segments
    restored = SqlStore(back / "oneshot.db")
    try:
        index = index_of(restored)
        assert index.size("g") == COUNT - 1
        found = {n: index.find("g", vectors[n], 1).matches[0].label for n in range(COUNT)}
        assert found.pop(7) != "c7"
        assert found == {n: f"c{n}" for n in range(COUNT) if n != 7}
        assert len(list((back / "index").glob("g*"))) == 1
    finally:
        restored.close()
