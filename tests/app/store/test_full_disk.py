"""On a full disk all writes are refused except those that free space (deletions) and the revocation of a key."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from app.api_key import Scope, make_key
from app.errors import ClassNotFoundError, GalleryNotFoundError, StoreUnavailableError, WriteInDoubtError
from app.store import OnConflict, SqlStore
from app.store.reserve import RESERVE, Reserve
from app.store.sqlite import translated_errors
from testing.stores import support

SIZE = 1_000_000
MIB = 2**20


def small_disk(folder: Path, megabytes: int) -> list[str]:
    """A command prefix that mounts a new file system of this size on the folder, for the command only."""
    mount = f'mount -t tmpfs -o size={megabytes}m none "$0" && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]


def can_mount(folder: Path) -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*small_disk(folder, 1), "true"], check=False, capture_output=True).returncode == 0


# One shot of 3 MB, and small ones that exceed the reserve; other data fill the rest of the disk.
FILL = """
import os, sys
from contextlib import suppress
from pathlib import Path
from app.errors import StoreUnavailableError
from app.api_key import Scope, make_key
from app.store import OnConflict, SqlStore
from testing.stores import support

home = Path(sys.argv[1])
path = home / "oneshot.db"
store = SqlStore(path)
store.keep_reserve(int(sys.argv[2]))
key, _ = make_key("k", frozenset({Scope.READ}))
store.keys.add(key)
store.enroll("g", [support("large", image=os.urandom(3_000_000))], OnConflict.REPLACE)
for number in range(60):
    store.enroll("h", [support(f"c{number}", image=os.urandom(150_000))], OnConflict.REPLACE)
with (home / "somebody else's").open("wb", buffering=0) as file, suppress(OSError):
    while True:
        file.write(bytes(4096))

def attempt(what, work):
    try:
        work()
        print(what, "done", flush=True)
    except StoreUnavailableError:
        print(what, "refused", flush=True)

attempt("enrol", lambda: store.enroll("g", [support("b", image=bytes(9_000))], OnConflict.REPLACE))
attempt("delete class", lambda: store.remove_class("g", "large"))
attempt("delete gallery", lambda: store.remove_gallery("h"))
attempt("revoke", lambda: store.keys.revoke(key.id))
left = [each.name for each in store.list_galleries()]
store.close()
again = SqlStore(path)
assert [each.name for each in again.list_galleries()] == left
with again.database.read() as connection:
    assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
print("left", *left)
"""


def on_a_full_disk(folder: Path, reserve: int) -> list[str]:
    command = [*small_disk(folder, 28), sys.executable, "-c", FILL, str(folder), str(reserve)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_full_disk_lets_classes_and_galleries_be_deleted(path: Path, tmp_path: Path):
    if not can_mount(tmp_path):
        pytest.skip("no file system can be mounted here")
    done = ["enrol refused", "delete class done", "delete gallery done", "revoke done", "left g"]
    assert on_a_full_disk(tmp_path, 5 * MIB) == done
    refused = ["enrol refused", "delete class refused", "delete gallery refused", "revoke refused", "left g h"]
    assert on_a_full_disk(tmp_path, 0) == refused


def full_until(store: SqlStore, monkeypatch: pytest.MonkeyPatch, free: Callable[[], bool]) -> None:
    """Make the store's writes fail like on a full disk whenever `free()` is false."""
    write = store.database.write

    def maybe():
        if free():
            return write()
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        with translated_errors():
            raise sa.exc.OperationalError("COMMIT", {}, full)

    monkeypatch.setattr(store.database, "write", maybe)


def reserve_of(path: Path) -> Path:
    return path.with_name(path.name + RESERVE)


def test_deletions_get_what_is_reserved_and_it_is_taken_again(store: SqlStore, path: Path, monkeypatch):
    store.keep_reserve(SIZE)
    assert reserve_of(path).stat().st_size == SIZE
    key, _ = make_key("k", frozenset({Scope.READ}))
    store.keys.add(key)
    for label in ("a", "b"):
        store.enroll("g", [support(label), support(label)], OnConflict.ADD)
    full_until(store, monkeypatch, lambda: reserve_of(path).stat().st_size == 0)
    with pytest.raises(StoreUnavailableError):
        store.enroll("g", [support("c")], OnConflict.REPLACE)
    store.remove_class("g", "a")
    assert reserve_of(path).stat().st_size == SIZE
    assert [each.label for each in store.list_classes("g", 9).items] == ["b"]
    assert store.keys.revoke(key.id)
    store.remove_gallery("g")
    assert store.list_galleries() == []
    assert reserve_of(path).stat().st_size == SIZE


def test_pieces_of_a_deletion_are_seen_by_followers(store: SqlStore, path: Path, monkeypatch):
    store.keep_reserve(SIZE)
    store.enroll("g", [support("a", (number, 0), image=bytes(3 * MIB)) for number in range(5)], OnConflict.ADD)
    store.enroll("g", [support("b", image=bytes(5 * MIB))], OnConflict.ADD)
    seq = store.head()
    pieces = iter([True, True, True, False])
    full_until(store, monkeypatch, lambda: reserve_of(path).stat().st_size == 0 and next(pieces))
    with pytest.raises(WriteInDoubtError, match="a part"):
        store.remove_gallery("g")
    assert store.get_class("g", "a").supports == 2
    [changes] = store.changes_since(seq).galleries
    assert list(changes.classes.values()) == ["a"]
    assert changes.vectors[:, 0].tolist() == [3, 4]


def test_a_gallery_that_is_not_there_is_told_so_on_a_full_disk_too(store: SqlStore, path: Path, monkeypatch):
    store.keep_reserve(SIZE)
    store.enroll("g", [support("a")], OnConflict.REPLACE)
    full_until(store, monkeypatch, lambda: reserve_of(path).stat().st_size == 0)
    with pytest.raises(GalleryNotFoundError):
        store.remove_gallery("h")
    with pytest.raises(ClassNotFoundError):
        store.remove_class("g", "b")


def test_what_is_lacking_is_taken_when_the_store_is_looked_at(store: SqlStore, path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(total=SIZE, used=SIZE, free=0))
        store.keep_reserve(SIZE)
        store.check_writable()
        assert not reserve_of(path).exists()
    store.check_writable()
    assert reserve_of(path).stat().st_size == SIZE
    assert reserve_of(path).stat().st_blocks * 512 >= SIZE, "a file with a hole in it reserves nothing"


def test_nobody_takes_it_again_while_another_process_uses_it(tmp_path: Path):
    one, two = Reserve(tmp_path / "r"), Reserve(tmp_path / "r")
    for each in (one, two):
        each.keep(SIZE)
    with one.spent():
        two.fill()
        assert (tmp_path / "r").stat().st_size == 0
    assert (tmp_path / "r").stat().st_size == SIZE


def test_nothing_may_be_reserved(tmp_path: Path):
    none = Reserve(tmp_path / "r")
    none.keep(0)
    assert list(tmp_path.iterdir()) == []
    with none.spent():
        pass
    assert (tmp_path / "r").stat().st_size == 0
