"""Renaming: the same class under another label, in the store and in every view of it."""

from pathlib import Path

import numpy as np
import pytest

from app.errors import ClassExistsError, ClassNotFoundError, GalleryNotFoundError
from app.gallery.index import GalleryIndex
from app.store import OnConflict, SqlStore
from testing.manifests import make_manifest
from testing.stores import support

OURS = make_manifest("l2", 2)


def enroll(store: SqlStore, **vectors: tuple[float, float]) -> None:
    items = [support(label, vector, label.encode(), OURS.digest) for label, vector in vectors.items()]
    store.enroll("g", items, OnConflict.ADD)


def test_only_the_label_changes(store: SqlStore):
    enroll(store, a=(0, 0))
    enroll(store, a=(1, 0))
    before, shots = store.get_class("g", "a"), store.list_supports("g", "a")
    renamed = store.rename_class("g", "a", "Ä/b")
    assert renamed == store.get_class("g", "Ä/b")
    assert renamed.label == "Ä/b"
    assert (renamed.supports, renamed.created_at, renamed.updated_at) == (2, before.created_at, before.updated_at)
    assert [shot.id for shot in store.list_supports("g", "Ä/b")] == [shot.id for shot in shots]
    assert store.read_image("g", "Ä/b", 1)[0] == b"a"
    with pytest.raises(ClassNotFoundError):
        store.get_class("g", "a")


def test_a_taken_label_is_refused_and_nothing_changes(store: SqlStore):
    enroll(store, a=(0, 0), b=(1, 0))
    seq = store.changes_since(0).seq
    with pytest.raises(ClassExistsError) as caught:
        store.rename_class("g", "a", "b")
    assert caught.value.labels == ("b",)
    assert store.changes_since(0).seq == seq
    assert [each.label for each in store.list_classes("g", 10).items] == ["a", "b"]


def test_its_own_label_is_no_change(store: SqlStore):
    enroll(store, a=(0, 0))
    seq = store.changes_since(0).seq
    assert store.rename_class("g", "a", "a").label == "a"
    assert store.changes_since(0).seq == seq


def test_what_is_not_there_cannot_be_renamed(store: SqlStore):
    with pytest.raises(GalleryNotFoundError):
        store.rename_class("g", "a", "b")
    enroll(store, a=(0, 0))
    with pytest.raises(ClassNotFoundError):
        store.rename_class("g", "b", "c")


def test_the_old_label_leaves_no_trace_in_the_files(store: SqlStore, path: Path):
    store.enroll("g", [support("<a person's name>")], OnConflict.REPLACE)
    store.rename_class("g", "<a person's name>", "x")
    assert all(b"<a person's name>" not in file.read_bytes() for file in path.parent.iterdir())


def test_a_view_follows_two_classes_that_swap_their_labels(store: SqlStore):
    enroll(store, a=(0, 0), b=(1, 0))
    index = GalleryIndex(store, OURS)
    index.refresh()
    # the log holds only the final state, "b" before "a"
    for label, new_label in (("a", "between"), ("b", "a"), ("between", "b")):
        store.rename_class("g", label, new_label)
    assert index.size("g") == 2
    for label, x in (("a", 1.0), ("b", 0.0)):
        np.testing.assert_array_equal(index.vectors("g", label), [[x, 0.0]])
    assert [match.label for match in index.find("g", np.zeros(2, dtype=np.float32), 2).matches] == ["b", "a"]


def test_a_sample_is_spread_over_all_classes_and_shows_their_oldest_shots(store: SqlStore):
    enroll(store, **{f"c{number}": (float(number), 0.0) for number in range(10)})
    enroll(store, c4=(100.0, 0.0))
    index = GalleryIndex(store, OURS)
    labels, vectors, metric = index.sample("g", 5)
    assert metric == "l2"
    assert len(set(labels)) == 5
    assert {f"c{int(x)}" for x in vectors[:, 0]} == set(labels)
    everything, *_ = index.sample("g", 10)
    assert sorted(everything) == [f"c{number}" for number in range(10)]
    store.remove_gallery("g")
    with pytest.raises(GalleryNotFoundError):
        index.sample("g", 5)
