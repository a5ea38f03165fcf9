"""Reading: labels exactly as enrolled, pages without gaps or repeats, and a clear error for missing classes."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ClassNotFoundError, GalleryNotFoundError, ImageNotFoundError
from app.store import OnConflict, SqlStore
from testing.served import Where
from testing.stores import support

ADD, REPLACE = OnConflict.ADD, OnConflict.REPLACE


def all_pages(store: SqlStore, gallery: str, limit: int, search: str | None = None) -> list[str]:
    labels: list[str] = []
    after: str | None = None
    while True:
        page = store.list_classes(gallery, limit, after, search)
        labels += [each.label for each in page.items]
        if page.next_after is None:
            return labels
        assert len(page.items) == limit
        after = page.next_after


def test_labels_are_kept_and_compared_exactly(store: SqlStore, odd_labels: list[str]):
    for number, label in enumerate(odd_labels):
        [outcome] = store.enroll("g", [support(label, (number, 0), b"%d" % number)], REPLACE)
        assert outcome.created, label
    assert all_pages(store, "g", 5) == sorted(odd_labels)
    for number, label in enumerate(odd_labels):
        assert store.get_class("g", label).label == label
        assert store.read_image("g", label)[0] == b"%d" % number
    for number, label in enumerate(odd_labels):
        store.remove_class("g", label)
        assert store.list_galleries()[0].classes == len(odd_labels) - number - 1


def test_gallery_names_are_compared_exactly(store: SqlStore, odd_labels: list[str]):
    for number, name in enumerate(odd_labels):
        store.enroll(name, [support("a", (number, 0))], REPLACE)
    assert [gallery.name for gallery in store.list_galleries()] == sorted(odd_labels)
    for number, name in enumerate(odd_labels):
        assert store.list_supports(name, "a")[0].embedding[0] == number


def test_galleries_keep_to_themselves(store: SqlStore):
    store.enroll("g", [support("a", image=b"of g"), support("b")], REPLACE)
    store.enroll("h", [support("a", image=b"of h")], REPLACE)
    store.remove_class("g", "a")
    assert store.read_image("h", "a")[0] == b"of h"
    assert [(each.name, each.classes) for each in store.list_galleries()] == [("g", 1), ("h", 1)]
    store.remove_gallery("g")
    assert all_pages(store, "h", 9) == ["a"]


def test_a_gallery_without_classes_is_still_there(store: SqlStore):
    store.enroll("g", [support("a")], REPLACE)
    store.remove_class("g", "a")
    assert store.list_classes("g", 10).items == []
    assert store.list_classes("g", 10).next_after is None
    assert store.list_galleries()[0].classes == 0


def test_pages_are_ordered_and_complete(store: SqlStore, where: Where):
    galleries = count()
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0" if isinstance(where, str) else "")

    @settings(max_examples=25, deadline=None)
    @given(labels=st.sets(st.text(letters, min_size=1, max_size=4), min_size=1, max_size=20), limit=st.integers(1, 8))
    def check(labels: set[str], limit: int) -> None:
        gallery = f"gallery {next(galleries)}"
        store.enroll(gallery, [support(label) for label in labels], REPLACE)
        assert all_pages(store, gallery, limit) == sorted(labels)

    check()


def contains(label: str, text: str) -> bool:
    """An independent definition of what a search finds."""
    if text.isascii():
        upper = {ord(small): small.upper() for small in "abcdefghijklmnopqrstuvwxyz"}
        return text.translate(upper) in label.translate(upper)
    return text.casefold() in label.casefold()


def test_a_search_finds_what_contains_the_text_and_nothing_else(store: SqlStore):
    galleries = count()
    letters = st.text(st.sampled_from("aAéÉßsS%_/\\'\"*?[ 漢"), min_size=1, max_size=3)

    @settings(max_examples=60, deadline=None)
    @given(labels=st.sets(letters, min_size=1, max_size=20), text=letters, limit=st.integers(1, 8))
    def check(labels: set[str], text: str, limit: int) -> None:
        gallery = f"gallery {next(galleries)}"
        store.enroll(gallery, [support(label) for label in labels], REPLACE)
        expected = sorted(label for label in labels if contains(label, text))
        assert all_pages(store, gallery, limit, text) == expected

    check()


def test_a_search_goes_through_the_index_in_order(store: SqlStore, path: Path):
    store.enroll("g", [support(label) for label in ("beta", "alphabet")], REPLACE)
    assert all_pages(store, "g", 1, "BET") == ["alphabet", "beta"]
    query = """EXPLAIN QUERY PLAN SELECT label, created_at FROM classes
        WHERE gallery_id = 1 AND label > 'a' AND label LIKE '%bet%' ESCAPE '/' ORDER BY label LIMIT 2"""
    with closing(sqlite3.connect(path)) as connection:
        plan = [row[3] for row in connection.execute(query)]
    assert len(plan) == 1, plan  # no sorting
    assert re.match(r"SEARCH classes USING INDEX \S*classes\S* \(gallery_id=\? AND label>\?\)", plan[0])


def test_pages_go_on_where_they_were_while_classes_come_and_go(store: SqlStore):
    store.enroll("g", [support(label) for label in "bdfhj"], REPLACE)
    first = store.list_classes("g", 2)
    assert ([each.label for each in first.items], first.next_after) == (["b", "d"], "d")
    store.remove_class("g", "d")
    store.remove_class("g", "f")
    store.enroll("g", [support("a"), support("e")], REPLACE)
    second = store.list_classes("g", 2, first.next_after)
    assert [each.label for each in second.items] == ["e", "h"]


def test_a_page_counts_the_shots(store: SqlStore):
    store.enroll("g", [support("a"), support("b"), support("a")], ADD)
    assert [(each.label, each.supports) for each in store.list_classes("g", 9).items] == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_has_at_least_one_place(store: SqlStore, limit: int):
    with pytest.raises(ValueError, match="limit"):
        store.list_classes("g", limit)


@pytest.mark.parametrize("shot", [-1, 1, 2**40])
def test_a_shot_that_is_not_there(store: SqlStore, shot: int):
    store.enroll("g", [support("a")], REPLACE)
    with pytest.raises(ImageNotFoundError):
        store.read_image("g", "a", shot)


def test_an_image_that_was_not_kept(store: SqlStore):
    store.enroll("g", [support("a", image=None), support("b", image=b"")], REPLACE)
    with pytest.raises(ImageNotFoundError):
        store.read_image("g", "a")
    assert store.read_image("g", "b")[0] == b""


BY_CLASS = [SqlStore.get_class, SqlStore.list_supports, SqlStore.read_image, SqlStore.remove_class]
BY_GALLERY: list[Callable[[SqlStore, str], object]] = [
    SqlStore.remove_gallery,
    lambda store, gallery: store.list_classes(gallery, 1),
]


@pytest.mark.parametrize("call", BY_CLASS)
def test_an_unknown_class(store: SqlStore, call: Callable[[SqlStore, str, str], object]):
    store.enroll("g", [support("a")], REPLACE)
    store.enroll("h", [support("b")], REPLACE)
    seq = store.changes_since(0).seq
    with pytest.raises(ClassNotFoundError) as missing_class:
        call(store, "g", "b")
    assert (missing_class.value.gallery, missing_class.value.label) == ("g", "b")
    with pytest.raises(GalleryNotFoundError):
        call(store, "G", "a")
    assert store.changes_since(0).seq == seq


@pytest.mark.parametrize("call", BY_GALLERY)
def test_an_unknown_gallery(store: SqlStore, call: Callable[[SqlStore, str], object]):
    store.enroll("g", [support("a")], REPLACE)
    with pytest.raises(GalleryNotFoundError) as missing:
        call(store, "G")
    assert missing.value.gallery == "G"


def test_what_was_written_is_there_after_opening_again(where: Where):
    store = SqlStore(where)
    store.enroll("g", [support("a", (1, 2), b"bytes")], REPLACE)
    record, changes = store.get_class("g", "a"), store.changes_since(0)
    store.close()
    again = SqlStore(where)
    try:
        assert again.get_class("g", "a") == record
        assert again.read_image("g", "a")[0] == b"bytes"
        assert again.changes_since(0).seq == changes.seq
    finally:
        again.close()
