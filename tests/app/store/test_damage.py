"""Damage that the database does not detect: images and vectors are verified by checksums."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.errors import StoreCorruptError
from app.home.export import export_gallery
from app.store import OnConflict, SqlStore
from testing.stores import support

IMAGE = b"an image that is whole"
READS: dict[str, Callable[[SqlStore], object]] = {
    "image": lambda store: store.read_image("g", "a"),
    "images": lambda store: store.read_images("g", ["a"]),
    "waiting": lambda store: store.models.waiting(1, "other", 9),
    "supports": lambda store: store.list_supports("g", "a"),
    "changes": lambda store: store.changes_since(0),
    "gallery": lambda store: store.read_gallery(1),
}


def run(store: SqlStore, statement: str) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def filled(store: SqlStore) -> SqlStore:
    store.enroll("g", [support("a", (1, 2), IMAGE), support("b", (3, 4), b"another")], OnConflict.REPLACE)
    for read in READS.values():
        read(store)
    assert store.damage is None
    return store


@pytest.mark.parametrize("read", ["image", "images", "waiting"])
def test_an_image_that_was_altered(filled: SqlStore, read: str):
    run(filled, "UPDATE images SET image = (SELECT image FROM images WHERE support_id = 2) WHERE support_id = 1")
    with pytest.raises(StoreCorruptError, match="image is damaged"):
        READS[read](filled)
    assert "image" in (filled.damage or "")
    assert filled.read_image("g", "b")[0] == b"another"


@pytest.mark.parametrize("read", ["supports", "changes", "gallery"])
def test_a_vector_that_was_altered(filled: SqlStore, read: str):
    run(filled, "UPDATE supports SET embedding = (SELECT embedding FROM supports WHERE id = 2) WHERE id = 1")
    with pytest.raises(StoreCorruptError, match="1 of them"):
        READS[read](filled)
    assert "vectors" in (filled.damage or "")


def test_a_vector_of_a_later_model_that_was_altered(filled: SqlStore):
    vectors = np.array([[5, 6], [7, 8]], np.float32)
    filled.models.add_vectors("other", [1, 2], vectors)
    assert filled.models.switch(1, "other", 2)
    assert filled.read_gallery(1).vectors.tolist() == [[5, 6], [7, 8]]
    run(filled, "UPDATE embeddings SET checksum = checksum + 1 WHERE support_id = 2")
    assert filled.list_supports("g", "a")[0].embedding.tolist() == [5, 6]
    for read in (READS["gallery"], READS["changes"], lambda store: store.list_supports("g", "b")):
        with pytest.raises(StoreCorruptError, match="1 of them"):
            read(filled)


def test_what_has_no_checksum_is_taken_as_it_is(filled: SqlStore):
    run(filled, "UPDATE images SET checksum = NULL")
    run(filled, "UPDATE supports SET checksum = NULL")
    run(filled, "UPDATE images SET image = (SELECT image FROM images WHERE support_id = 2) WHERE support_id = 1")
    for read in READS.values():
        read(filled)
    assert filled.damage is None


def test_damage_is_known_to_every_process_until_all_was_found_whole(filled: SqlStore, path: Path):
    run(filled, "UPDATE images SET checksum = 1 WHERE support_id = 1")
    with pytest.raises(StoreCorruptError):
        filled.read_image("g", "a")
    other = SqlStore(path)
    assert other.damage == filled.damage == "A stored image is damaged: its checksum differs."
    found_at = path.with_name("store.db-damaged").stat().st_mtime
    other.database.damage.forget(before=found_at - 1)
    assert filled.damage
    other.database.damage.forget(before=found_at + 1)
    assert [each.damage for each in (filled, other)] == [None, None]
    other.close()


def test_a_bit_that_flips_on_the_disk(store: SqlStore, path: Path):
    store.enroll("g", [support("a", image=IMAGE)], OnConflict.REPLACE)
    store.close()
    path.write_bytes(path.read_bytes().replace(IMAGE, IMAGE.replace(b"whole", b"whale")))
    opened = SqlStore(path)
    with pytest.raises(StoreCorruptError):
        opened.read_image("g", "a")
    opened.close()
    again = SqlStore(path)
    assert again.damage is not None
    again.close()


def test_images_are_saved_from_a_store_whose_vectors_are_damaged(filled: SqlStore, tmp_path: Path):
    run(filled, "UPDATE supports SET checksum = checksum + 1")
    assert export_gallery(filled, "g", tmp_path / "saved") == 2
    assert [file.read_bytes() for file in (tmp_path / "saved" / "a").iterdir()] == [IMAGE]
