"""The file fails under an open store: a clear error, and no acknowledged write is lost."""

import random
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import StoreCorruptError, StoreUnavailableError
from app.store import OnConflict, SqlStore
from testing.stores import support

ADD, REPLACE = OnConflict.ADD, OnConflict.REPLACE


def test_another_process_that_keeps_the_write_lock(store: SqlStore, path: Path):
    store.enroll("g", [support("a")], REPLACE)
    hasty = SqlStore(path, busy_timeout_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            hasty.enroll("g", [support("b")], REPLACE)
        assert [each.label for each in hasty.list_classes("g", 9).items] == ["a"]  # reads still work
        other.execute("ROLLBACK")
        hasty.enroll("g", [support("b")], REPLACE)
    finally:
        other.close()
        hasty.close()
    assert store.get_class("g", "b").supports == 1


def test_a_closed_store_says_so(store: SqlStore):
    store.enroll("g", [support("a")], REPLACE)
    store.close()
    store.close()
    for call in (
        lambda: store.enroll("g", [support("a")], REPLACE),
        lambda: store.remove_class("g", "a"),
        lambda: store.list_classes("g", 1),
        lambda: store.changes_since(0),
        store.version,
    ):
        with pytest.raises(StoreUnavailableError, match="closed"):
            call()


def test_a_damaged_page_is_reported(store: SqlStore, path: Path):
    store.enroll("g", [support("a", image=random.Random(1).randbytes(1_000_000))], REPLACE)
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff" * (len(content) - len(content) // 2))
    damaged = SqlStore(path)
    try:
        assert damaged.get_class("g", "a").supports == 1  # undamaged pages can be read
        with pytest.raises(StoreCorruptError, match="damaged"):
            damaged.read_image("g", "a")
    finally:
        damaged.close()


def test_a_vector_of_another_length_is_reported(store: SqlStore, path: Path):
    store.enroll("g", [support("a")], REPLACE)
    other = sqlite3.connect(path)
    other.execute("UPDATE supports SET embedding = x'00112233445566'")
    other.commit()
    other.close()
    with pytest.raises(StoreCorruptError, match="7 bytes"):
        store.changes_since(0)


# RLIMIT_FSIZE makes writes beyond a size fail, like a full disk.
FILL = """
import resource, sys
from pathlib import Path
from app.errors import StoreUnavailableError
from app.store import OnConflict, SqlStore
from testing.stores import support

store = SqlStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
for number in range(100):
    try:
        store.enroll("g", [support(f"c{number}", image=b"x" * 20_000)], OnConflict.REPLACE)
    except StoreUnavailableError as error:
        print(error, flush=True)
        break
    print(f"c{number}", flush=True)
store.list_classes("g", 100)
"""


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(path: Path):
    ran = subprocess.run(
        [sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    *acknowledged, refusal = ran.stdout.splitlines()
    assert "can't be used now" in refusal
    assert len(acknowledged) > 3
    store = SqlStore(path)
    try:
        assert [each.label for each in store.list_classes("g", 100).items] == sorted(acknowledged)
        assert all(store.read_image("g", label)[0] == b"x" * 20_000 for label in acknowledged)
        with store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        store.enroll("g", [support("after")], REPLACE)
    finally:
        store.close()


def test_threads_write_and_read_at_once(store: SqlStore):
    start = threading.Barrier(8)

    def work(worker: int) -> None:
        start.wait()
        for number in range(8):
            label = f"{worker} {number}"
            store.enroll("g", [support(label, (worker, number)), support("shared")], ADD)
            assert store.list_supports("g", label)[0].embedding.tolist() == [worker, number]
            if number % 2:
                store.remove_class("g", label)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    expected = {f"{worker} {number}" for worker in range(8) for number in range(0, 8, 2)} | {"shared"}
    assert {each.label for each in store.list_classes("g", 99).items} == expected
    assert store.get_class("g", "shared").supports == 64


def test_every_connection_has_the_settings_that_durability_rests_on(store: SqlStore, path: Path):
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with store.database.read() as first, store.database.write() as second, store.database.read() as third:
        for connection in (first, second, third):
            connection.exec_driver_sql("SELECT count(*) FROM galleries")  # opens the file
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in expected}
            assert found == expected
