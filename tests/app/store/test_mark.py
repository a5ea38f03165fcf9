"""A store that lacks acknowledged changes is refused before anything is overwritten."""

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import StartupError, StoreUnavailableError
from app.store import OnConflict, SqlStore
from testing.stores import put_new_store, support

REPLACE = OnConflict.REPLACE
DIE = """
import os, sys
from pathlib import Path
from app.store import OnConflict, SqlStore
from testing.stores import support

store = SqlStore(Path(sys.argv[1]))
for label in "abc":
    store.enroll("g", [support(label)], OnConflict.REPLACE)
os._exit(0)
"""


def die_after_writing(path: Path) -> None:
    """Enrol three classes in a process that dies before it checkpoints the write-ahead log."""
    subprocess.run([sys.executable, "-c", DIE, str(path)], check=True, timeout=60)
    assert path.with_name("store.db-wal").stat().st_size > 0


def labels(path: Path) -> list[str]:
    store = SqlStore(path)
    try:
        return [each.label for each in store.list_classes("g", 9).items]
    finally:
        store.close()


def test_a_log_that_was_deleted_is_noticed_and_can_be_put_back(path: Path):
    put_new_store(path)
    die_after_writing(path)
    kept = shutil.move(path.with_name("store.db-wal"), path.with_name("kept"))
    path.with_name("store.db-shm").unlink()
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StartupError, match=r"store\.db: It lacks .* \(the last 3\)") as caught:
            SqlStore(path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before, "nothing may be written: the log would no longer fit"
    shutil.move(kept, path.with_name("store.db-wal"))
    assert labels(path) == ["a", "b", "c"]
    assert labels(path) == ["a", "b", "c"]


def test_without_the_mark_it_goes_on_with_what_there_is(path: Path):
    store = SqlStore(put_new_store(path))
    store.enroll("g", [support("old")], REPLACE)
    store.close()
    die_after_writing(path)
    path.with_name("store.db-wal").unlink()
    with pytest.raises(StartupError, match=r"delete store\.db-mark"):
        SqlStore(path)
    path.with_name("store.db-mark").unlink()
    assert labels(path) == ["old"]
    assert labels(path) == ["old"]


def test_an_older_copy_is_noticed_whatever_it_lacks(store: SqlStore, path: Path, tmp_path: Path):
    store.enroll("g", [support("a")], REPLACE)
    store.close()
    shutil.copyfile(path, tmp_path / "copy")
    opened = SqlStore(path)
    opened.models.want("another")  # no entry in the change log
    opened.close()
    (tmp_path / "copy").replace(path)
    with pytest.raises(StartupError, match=r"the last 1\b"):
        SqlStore(path)


def test_a_store_of_another_identity_is_none_that_went_back(store: SqlStore, path: Path):
    store.enroll("g", [support("a")], REPLACE)
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = 'another' WHERE key = 'store_id'")
    connection.execute("DELETE FROM meta WHERE key = 'commits'")
    connection.commit()
    connection.close()
    assert labels(path) == ["a"]
    assert path.with_name("store.db-mark").read_text().split() == ["another", "0" * 20]


@pytest.mark.parametrize("content", [b"", b"half", b"\xff\xfe 3\n", b"id x\n"])
def test_a_mark_that_is_none_is_made_anew(store: SqlStore, path: Path, content: bytes):
    store.enroll("g", [support("a")], REPLACE)
    store.close()
    path.with_name("store.db-mark").write_bytes(content)
    assert labels(path) == ["a"]
    assert path.with_name("store.db-mark").read_text().split()[1] == f"{1:020}"


def undo(store: SqlStore) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM meta")
        raise ZeroDivisionError


def test_only_what_changes_something_counts(store: SqlStore, path: Path):
    def mark() -> int:
        return int(path.with_name("store.db-mark").read_text().split()[1])

    first, version = mark(), store.version()
    store.models.switch(1, "digest", 2)
    with pytest.raises(ZeroDivisionError):
        undo(store)
    assert mark() == first + 1  # the switch logs a change; the rolled-back write does not
    store.models.forget_others()
    assert mark() == first + 1
    assert store.version() != version
    store.enroll("g", [support("a")], REPLACE)
    assert mark() == first + 2


def enrol(path: Path, worker: int) -> None:
    store = SqlStore(path)
    for number in range(10):
        store.enroll("g", [support(f"{worker} {number}")], REPLACE)
    store.close()


def test_processes_count_together(path: Path):
    put_new_store(path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=enrol, args=(path, worker)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT value FROM meta WHERE key = 'commits'").fetchone() == ("20",)
    connection.close()
    assert len(labels(path)) == 9


def test_a_mark_that_cannot_be_written_stops_nothing(path: Path):
    put_new_store(path)
    path.with_name("store.db-mark").mkdir()
    store = SqlStore(path)
    store.enroll("g", [support("a")], REPLACE)
    store.close()
    with pytest.raises(StoreUnavailableError):
        store.version()
    assert labels(path) == ["a"]
