"""A large gallery that changes its model: the old view answers until the new one is complete; no change is missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.errors import ModelMismatchError
from app.gallery.index import GalleryIndex
from app.gallery.segment import Segment
from app.gallery.segment_files import Snapshots
from app.store import NewSupport, OnConflict, SqlStore
from app.store.base import GalleryInfo
from model.manifest import Manifest, Metric
from testing.manifests import make_manifest
from testing.stores import put_new_store

OLD, NEW = make_manifest("l2", 8, "old"), make_manifest("cosine", 4, "new")
COUNT = 60


def vectors(manifest: Manifest, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(COUNT, manifest.similarity.dim)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def manifest_of(digest: str) -> Manifest | None:
    return next((each for each in (OLD, NEW) if each.digest == digest), None)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    monkeypatch.setattr("app.gallery.index.SEGMENT_FROM", 20)
    opened = SqlStore(put_new_store(tmp_path / "store.db"))
    items = [NewSupport(f"c{n}", b"x", "image/png", v, OLD.digest) for n, v in enumerate(vectors(OLD))]
    opened.enroll("g", items, OnConflict.REPLACE)
    ids = [opened.list_supports("g", f"c{n}")[0].id for n in range(COUNT)]
    opened.models.add_vectors(NEW.digest, ids, vectors(NEW))
    yield opened
    opened.close()


class Held(Snapshots):
    """Blocks the views of the new model until `go` is set."""

    def __init__(self, store: SqlStore) -> None:
        super().__init__(folder_of(store), store)
        self.go = threading.Event()

    def load(self, info: GalleryInfo, metric: Metric, newer_than: int = -1) -> Segment | None:
        if info.model_digest == NEW.digest:
            assert self.go.wait(20)
        return super().load(info, metric, newer_than)


def folder_of(store: SqlStore) -> Path:
    return Path(store.name).parent / "index"


def index_of(store: SqlStore, snapshots: Snapshots | None = None) -> GalleryIndex:
    return GalleryIndex(store, OLD, manifest_of, snapshots or Snapshots(folder_of(store), store))


def held_index(store: SqlStore) -> tuple[threading.Event, GalleryIndex]:
    """An index, and the event that lets it open views of the new model."""
    held = Held(store)
    return held.go, index_of(store, held)


def wait_until_moved(index: GalleryIndex) -> None:
    deadline = time.monotonic() + 20
    while index.moving("g"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def switch(store: SqlStore) -> None:
    assert store.models.switch(store.gallery_infos()[0][0].id, NEW.digest, NEW.similarity.dim)


def best(index: GalleryIndex, manifest: Manifest, number: int) -> str:
    return index.find("g", vectors(manifest)[number], 1, manifest.digest).matches[0].label


def test_the_old_view_answers_until_the_new_one_is_whole(store: SqlStore):
    go, index = held_index(store)
    assert best(index, OLD, 7) == "c7"
    switch(store)
    for number in range(COUNT):
        assert best(index, OLD, number) == f"c{number}"
    assert index.moving("g")
    with pytest.raises(ModelMismatchError):
        best(index, NEW, 7)
    go.set()
    wait_until_moved(index)
    assert [best(index, NEW, number) for number in range(COUNT)] == [f"c{number}" for number in range(COUNT)]
    with pytest.raises(ModelMismatchError):
        best(index, OLD, 7)


def test_what_is_deleted_meanwhile_is_not_found(store: SqlStore):
    go, index = held_index(store)
    index.refresh()
    switch(store)
    assert best(index, OLD, 7) == "c7"
    store.remove_class("g", "c7")
    assert best(index, OLD, 7) != "c7"
    assert best(index, OLD, 8) == "c8"
    go.set()
    wait_until_moved(index)
    assert best(index, NEW, 7) != "c7"
    assert index.size("g") == COUNT - 1


def test_a_request_that_must_see_a_new_class_waits_for_the_new_view(store: SqlStore):
    go, index = held_index(store)
    index.refresh()
    switch(store)
    assert best(index, OLD, 1) == "c1"
    late = vectors(NEW, seed=5)[0]
    store.enroll("g", [NewSupport("late", b"x", "image/png", late, NEW.digest)], OnConflict.REPLACE)
    with ThreadPoolExecutor(1) as pool:
        size = pool.submit(index.size, "g")
        time.sleep(0.2)
        assert not size.done()
        go.set()
        assert size.result(20) == COUNT + 1
    assert index.find("g", late, 1, NEW.digest).matches[0].label == "late"


def test_a_gallery_that_is_rolled_back_meanwhile_ends_with_its_old_model(store: SqlStore):
    go, index = held_index(store)
    index.refresh()
    switch(store)
    store.remove_class("g", "c7")
    assert best(index, OLD, 8) == "c8"
    added = vectors(NEW, seed=5)[0]
    store.enroll("g", [NewSupport("late", b"x", "image/png", added, NEW.digest)], OnConflict.REPLACE)
    gallery_id = store.gallery_infos()[0][0].id
    late = [shot.id for shot in store.list_supports("g", "late")]
    store.models.add_vectors(OLD.digest, late, vectors(OLD, seed=5)[:1])
    assert store.models.switch(gallery_id, OLD.digest, OLD.similarity.dim)
    index.refresh()
    go.set()
    wait_until_moved(index)
    assert index.size("g") == COUNT
    assert index.find("g", vectors(OLD, seed=5)[0], 1, OLD.digest).matches[0].label == "late"
    assert best(index, OLD, 7) != "c7"


def test_a_gallery_dropped_meanwhile_stays_dropped(store: SqlStore):
    go, index = held_index(store)
    index.refresh()
    switch(store)
    index.refresh()
    store.remove_gallery("g")
    assert index.sizes() == {}
    go.set()
    deadline = time.monotonic() + 20
    while "move" in {thread.name for thread in threading.enumerate()}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert index.sizes() == {}


def test_what_was_prepared_is_opened_and_not_built_again(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    index = index_of(store)
    index.refresh()
    index.prepare(store.gallery_infos()[0][0].id, "g", NEW.digest)
    monkeypatch.setattr("app.gallery.segment_files.write_segment", None)
    switch(store)
    index.refresh()
    wait_until_moved(index)
    assert [best(index, NEW, number) for number in range(COUNT)] == [f"c{number}" for number in range(COUNT)]


def test_vectors_that_nobody_may_need_any_more_go(store: SqlStore):
    store.models.want(OLD.digest)
    store.models.want("third")
    switch(store)
    ids = [store.list_supports("g", "c0")[0].id]
    store.models.add_vectors("forgotten", ids, np.zeros((1, 2), np.float32))
    store.models.forget_others()
    assert len(store.read_gallery(1, "forgotten").vectors) == 0
    assert len(store.read_gallery(1, NEW.digest).vectors) == COUNT
