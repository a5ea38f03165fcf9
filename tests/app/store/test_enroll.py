"""Enrolling: what is written under each conflict rule, and that a refused batch leaves no trace."""

from datetime import UTC, datetime

import numpy as np
import pytest

from app.errors import ClassExistsError, ModelMismatchError
from app.store import ClassRecord, NewSupport, OnConflict, SqlStore
from app.store.bulk_insert import CHUNK
from testing.stores import support

ADD, FAIL, REPLACE = OnConflict.ADD, OnConflict.FAIL, OnConflict.REPLACE


def shots(store: SqlStore, label: str, gallery: str = "g") -> list[list[float]]:
    return [each.embedding.tolist() for each in store.list_supports(gallery, label)]


def everything(store: SqlStore) -> object:
    found = [
        (gallery, each, shots(store, each.label, gallery.name))
        for gallery in store.list_galleries()
        for each in store.list_classes(gallery.name, 99).items
    ]
    return found, store.changes_since(0).seq


def test_a_new_class_is_stored_with_all_that_came_with_it(store: SqlStore):
    before = datetime.now(UTC)
    [outcome] = store.enroll("g", [support("a", (1.5, -2), b"bytes", media_type="image/webp")], REPLACE)
    record = outcome.class_record
    assert outcome.created
    assert record == ClassRecord("g", "a", 1, record.created_at, record.created_at)
    assert before <= record.created_at <= datetime.now(UTC)
    assert record.created_at.tzinfo is UTC
    assert store.get_class("g", "a") == record
    assert store.read_image("g", "a") == (b"bytes", "image/webp")
    [shot] = store.list_supports("g", "a")
    assert shot.embedding.tolist() == [1.5, -2]
    assert shot.embedding.dtype == np.float32
    assert (shot.media_type, shot.created_at) == ("image/webp", record.created_at)


def test_replace_leaves_only_the_new_shot(store: SqlStore):
    store.enroll("g", [support("a", (1, 1)), support("a", (2, 2))], ADD)
    first = store.get_class("g", "a")
    [outcome] = store.enroll("g", [support("a", (3, 3), b"new")], REPLACE)
    assert not outcome.created
    assert outcome.class_record == store.get_class("g", "a")
    assert outcome.class_record.supports == 1
    assert outcome.class_record.created_at == first.created_at < outcome.class_record.updated_at
    assert shots(store, "a") == [[3, 3]]
    assert store.read_image("g", "a") == (b"new", "image/png")


def test_add_keeps_the_shots_in_order(store: SqlStore):
    for shot in range(3):
        [outcome] = store.enroll("g", [support("a", (shot, 0), b"%d" % shot)], ADD)
        assert (outcome.created, outcome.class_record.supports) == (shot == 0, shot + 1)
    assert shots(store, "a") == [[0, 0], [1, 0], [2, 0]]
    assert [store.read_image("g", "a", shot)[0] for shot in range(3)] == [b"0", b"1", b"2"]


def test_fail_refuses_the_whole_batch_and_names_every_conflict(store: SqlStore):
    store.enroll("g", [support("a"), support("b")], REPLACE)
    before = everything(store)
    with pytest.raises(ClassExistsError) as error:
        store.enroll("g", [support("new"), support("b"), support("a"), support("new2")], FAIL)
    assert error.value.labels == ("b", "a")
    assert everything(store) == before


def test_fail_refuses_a_label_that_comes_twice_and_makes_no_gallery(store: SqlStore):
    with pytest.raises(ClassExistsError) as error:
        store.enroll("g", [support("a"), support("b"), support("a"), support("a")], FAIL)
    assert error.value.labels == ("a",)
    assert store.list_galleries() == []
    assert store.changes_since(0).seq == 0


def test_fail_enrols_what_is_new(store: SqlStore):
    outcomes = store.enroll("g", [support("a"), support("b")], FAIL)
    assert [outcome.created for outcome in outcomes] == [True, True]


def test_of_one_label_in_a_batch_replace_keeps_the_last(store: SqlStore):
    items = [support("a", (1, 0), b"1"), support("b", (2, 0)), support("a", (3, 0), b"3")]
    outcomes = store.enroll("g", items, REPLACE)
    assert [outcome.created for outcome in outcomes] == [True, True, False]
    assert [outcome.class_record.label for outcome in outcomes] == ["a", "b", "a"]
    assert shots(store, "a") == [[3, 0]]
    assert store.read_image("g", "a")[0] == b"3"


def test_of_one_label_in_a_batch_add_keeps_all(store: SqlStore):
    store.enroll("g", [support("a", (0, 0))], ADD)
    outcomes = store.enroll("g", [support("a", (1, 0)), support("b", (2, 0)), support("a", (3, 0))], ADD)
    assert [outcome.created for outcome in outcomes] == [False, True, False]
    assert [outcome.class_record.supports for outcome in outcomes] == [3, 1, 3]
    assert shots(store, "a") == [[0, 0], [1, 0], [3, 0]]


def test_images_stay_with_their_own_shots_when_some_are_not_kept(store: SqlStore):
    labels = [f"c{number}" for number in range(40)]
    images = [None if number % 3 == 0 else b"image %d" % number for number in range(40)]
    store.enroll("g", [support(label, image=image) for label, image in zip(labels, images, strict=True)], REPLACE)
    kept = {label: image for label, image in zip(labels, images, strict=True) if image is not None}
    assert {label: store.read_image("g", label)[0] for label in kept} == kept


def test_a_batch_larger_than_one_statement_takes(store: SqlStore):
    items = [support(f"class {number:05}", (number, 0), None) for number in range(CHUNK + 100)]
    store.enroll("g", items, REPLACE)
    outcomes = store.enroll("g", items, REPLACE)
    assert not any(outcome.created for outcome in outcomes)
    assert all(outcome.class_record.supports == 1 for outcome in outcomes)
    [changes] = store.changes_since(0).galleries
    labels = [changes.classes[class_id] for class_id in changes.class_ids.tolist()]
    assert labels == [item.label for item in items]
    assert changes.vectors[:, 0].tolist() == list(range(CHUNK + 100))


def test_no_items_change_nothing(store: SqlStore):
    assert store.enroll("g", [], REPLACE) == []
    assert store.list_galleries() == []


@pytest.mark.parametrize("on_conflict", OnConflict)
def test_a_gallery_takes_vectors_of_one_model_only(store: SqlStore, on_conflict: OnConflict):
    store.enroll("g", [support("a", digest="model 1")], on_conflict)
    before = everything(store)
    with pytest.raises(ModelMismatchError) as error:
        store.enroll("g", [support("b", digest="model 2")], on_conflict)
    assert (error.value.gallery, error.value.pinned, error.value.offered) == ("g", "model 1", "model 2")
    assert everything(store) == before
    store.enroll("h", [support("b", digest="model 2")], on_conflict)
    assert [(each.name, each.model_digest) for each in store.list_galleries()] == [("g", "model 1"), ("h", "model 2")]


def test_a_dropped_gallery_may_come_back_with_another_model(store: SqlStore):
    store.enroll("g", [support("a", digest="model 1")], REPLACE)
    store.remove_gallery("g")
    store.enroll("g", [support("a", (1, 2, 3), digest="model 2")], REPLACE)
    [gallery] = store.list_galleries()
    assert (gallery.model_digest, gallery.dim, gallery.classes) == ("model 2", 3, 1)


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([support("b", (float("nan"), 0))], id="not a number"),
        pytest.param([support("b"), support("c", (0, float("inf")))], id="infinite"),
        pytest.param([support("b", (1, 2, 3))], id="other length than the gallery's"),
        pytest.param([support("b"), support("c", (1, 2, 3))], id="two lengths"),
        pytest.param([support("b"), support("c", digest="other")], id="two models"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(store: SqlStore, items: list[NewSupport]):
    store.enroll("g", [support("a")], REPLACE)
    before = everything(store)
    with pytest.raises(ValueError, match=r"embedding|dimensions|model"):
        store.enroll("g", items, REPLACE)
    assert everything(store) == before
