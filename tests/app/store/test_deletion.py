"""Deletion is complete: no byte of a deleted image, vector or label stays in the files."""

import random
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.store import NewSupport, OnConflict, SqlStore

REPLACE = OnConflict.REPLACE


def marked(number: int, image_size: int = 1) -> NewSupport:
    """An item with parts that can be identified in the files by their bytes."""
    embedding = np.random.default_rng(number).normal(size=32).astype(np.float32)
    return NewSupport(f"<label {number:04}>", b"<image %04d>" % number * image_size, "image/png", embedding, "digest")


def traces(folder: Path, item: NewSupport) -> set[str]:
    """The parts of the item that occur anywhere in the files."""
    assert item.image is not None
    content = b"\n".join(file.read_bytes() for file in folder.iterdir())
    needles = {"label": item.label.encode(), "image": item.image[:12], "embedding": item.embedding[3:9].tobytes()}
    return {part for part, needle in needles.items() if needle in content}


ALL = {"label", "image", "embedding"}


@pytest.mark.parametrize("image_size", [1, 1000], ids=["image within a page", "image over many pages"])
def test_a_removed_class_is_gone_from_the_files_at_once(store: SqlStore, path: Path, image_size: int):
    gone, stays = marked(1, image_size), marked(2, image_size)
    store.enroll("g", [gone, stays], REPLACE)
    assert traces(path.parent, gone) == ALL
    store.remove_class("g", gone.label)
    assert traces(path.parent, gone) == set()
    assert traces(path.parent, stays) == ALL


def test_a_removed_gallery_is_gone_from_the_files_at_once(store: SqlStore, path: Path):
    items = [marked(number, 100) for number in range(50)]
    store.enroll("<gallery>", items, REPLACE)
    store.enroll("other", [marked(99)], REPLACE)
    store.remove_gallery("<gallery>")
    assert [traces(path.parent, item) for item in items] == [set()] * 50
    assert not any(b"<gallery>" in file.read_bytes() for file in path.parent.iterdir())
    assert traces(path.parent, marked(99)) == ALL


def test_a_replaced_shot_is_gone_once_the_store_is_closed(path: Path):
    store = SqlStore(path)
    old = marked(1, 100)
    store.enroll("g", [old], REPLACE)
    new = marked(2, 100)
    store.enroll("g", [NewSupport(old.label, new.image, new.media_type, new.embedding, "digest")], REPLACE)
    store.close()
    assert traces(path.parent, old) == {"label"}
    assert traces(path.parent, new) == {"image", "embedding"}


def until_gone(folder: Path, item: NewSupport, seconds: float = 5.0) -> set[str]:
    """Wait up to `seconds` until image and vector are gone from the files; returns the parts that remain."""
    deadline = time.monotonic() + seconds
    while (found := traces(folder, item)) - {"label"} and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_replaced_shot_is_gone_from_the_files_within_seconds(store: SqlStore, path: Path):
    old, new = marked(1, 100), replace(marked(2, 100), label=marked(1).label)
    store.enroll("g", [old], REPLACE)
    store.enroll("g", [new], REPLACE)
    assert until_gone(path.parent, old) == {"label"}
    assert traces(path.parent, new) == ALL


def test_what_a_killed_process_left_is_gone_soon_after_the_next_start(path: Path):
    old, new = marked(1, 100), replace(marked(2, 100), label=marked(1).label)
    script = (
        "import os, sys; from pathlib import Path; from app.store import SqlStore, OnConflict\n"
        "from dataclasses import replace; from tests.app.store.test_deletion import marked\n"
        "store = SqlStore(Path(sys.argv[1])); store.enroll('g', [marked(1, 100)], OnConflict.REPLACE)\n"
        "new = replace(marked(2, 100), label=marked(1).label)\n"
        "store.enroll('g', [new], OnConflict.REPLACE); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert traces(path.parent, old) == ALL
    opened = SqlStore(path)
    try:
        assert until_gone(path.parent, old) == {"label"}
        assert traces(path.parent, new) == ALL
    finally:
        opened.close()


def test_a_reader_in_the_way_only_delays_it_until_the_next_write(store: SqlStore, path: Path):
    gone = marked(1)
    store.enroll("g", [gone], REPLACE)
    reader = sqlite3.connect(path, isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM classes").fetchall()
        store.remove_class("g", gone.label)
        assert traces(path.parent, gone) == ALL  # the open read transaction still needs it
        assert store.list_classes("g", 9).items == []
        reader.execute("COMMIT")
        store.enroll("g", [marked(2)], REPLACE)
        assert traces(path.parent, gone) == set()
    finally:
        reader.close()


def test_no_trace_stays_where_pages_were_split_and_merged(store: SqlStore, path: Path):
    chance = random.Random(7)
    items = [marked(number, chance.choice([1, 30, 300])) for number in range(400)]
    chance.shuffle(items)
    live: list[NewSupport] = []
    dead: list[NewSupport] = []
    for start in range(0, len(items), 40):
        store.enroll("g", items[start : start + 40], REPLACE)
        live += items[start : start + 40]
        chance.shuffle(live)
        for _ in range(6):
            dead.append(live.pop())
            store.remove_class("g", dead[-1].label)
        # Most deletions here are bulk replacements.
        chance.shuffle(live)
        for place in range(len(live) // 4):
            old = live[place]
            dead.append(old)
            live[place] = replace(marked(1000 + len(dead), chance.choice([1, 30, 300])), label=old.label)
        store.enroll("g", live[: len(live) // 4], REPLACE)
    store.remove_class("g", live.pop().label)  # truncates the write-ahead log
    content = b"\n".join(file.read_bytes() for file in path.parent.iterdir())
    labels = {item.label for item in live}
    assert len(dead) > 300
    for item in dead:
        assert item.image is not None
        assert item.label in labels or item.label.encode() not in content
        assert item.image[:12] not in content
        assert item.embedding[3:9].tobytes() not in content
    assert {each.label for each in store.list_classes("g", 999).items} == labels
