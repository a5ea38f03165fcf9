"""Looking at all of a store: damage that nobody has asked for yet is found, and a whole store is told to be whole."""

import random
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import StoreCorruptError
from app.service import inspector as inspecting
from app.service.inspector import Inspector
from app.store import OnConflict, SqlStore, inspection
from testing.stores import support
from tests.app.store.conftest import soon
from tests.app.store.test_damage import run

TABLES = ["images", "supports", "embeddings"]


def rest(_seconds: float) -> bool:
    return True


@pytest.fixture
def filled(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> SqlStore:
    monkeypatch.setattr(inspection, "_ROWS", 2)
    items = [support(f"c{number}", (number, 1), b"image %d" % number) for number in range(5)]
    store.enroll("g", items, OnConflict.REPLACE)
    for model in ("m1", "m2"):
        store.models.add_vectors(model, [1, 2, 3], np.ones((3, 2), np.float32))
    return store


def test_a_whole_store_is_whole(filled: SqlStore):
    assert filled.inspect(rest)
    assert filled.damage is None


@pytest.mark.parametrize("table", TABLES)
def test_damage_in_any_row_is_found(filled: SqlStore, table: str, caplog: pytest.LogCaptureFixture):
    key = "id" if table == "supports" else "support_id"
    run(filled, f"UPDATE {table} SET checksum = checksum + 1 WHERE {key} = 3")  # noqa: S608
    count = 2 if table == "embeddings" else 1
    with pytest.raises(StoreCorruptError, match=f"damaged: {count} "):
        filled.inspect(rest)
    assert filled.damage is not None
    assert sum("row_damaged" in record.message for record in caplog.records) == count
    run(filled, f"UPDATE {table} SET checksum = checksum - 1 WHERE {key} = 3")  # noqa: S608
    time.sleep(0.2)
    assert filled.inspect(rest)
    if filled.remote:
        return  # its damage is each process's own to remember
    assert filled.damage is None


def test_what_has_no_checksum_gets_one(filled: SqlStore):
    for table in TABLES:
        run(filled, f"UPDATE {table} SET checksum = NULL")  # noqa: S608
    assert filled.inspect(rest)
    with filled._database.read() as connection:
        for table in TABLES:
            query = f"SELECT count(*) FROM {table} WHERE checksum IS NULL"  # noqa: S608
            assert connection.exec_driver_sql(query).scalar_one() == 0
    version = filled.version()
    assert filled.inspect(rest)
    assert filled.version() == version, "the second look changes nothing"


def test_it_ends_when_it_is_told_and_takes_nothing_back(filled: SqlStore):
    filled._database.damage.note("found before")
    time.sleep(0.2)
    looks: list[float] = []

    def twice(seconds: float) -> bool:
        looks.append(seconds)
        return len(looks) < 2

    assert not filled.inspect(twice)
    assert len(looks) == 2
    assert filled.damage == "found before"


def test_a_damaged_page_that_nobody_asks_for_is_found(store: SqlStore, path: Path):
    items = [support(f"c{number}", image=random.Random(number).randbytes(20_000)) for number in range(10)]
    store.enroll("g", items, OnConflict.REPLACE)
    store.close()
    content = path.read_bytes()
    place = content.index(random.Random(7).randbytes(20_000)[6_000:6_100]) // 4096 * 4096
    path.write_bytes(content[:place] + b"\xff" * 4096 + content[place + 4096 :])
    damaged = SqlStore(path)
    try:
        assert damaged.get_class("g", "c7").supports == 1
        assert damaged.damage is None
        with pytest.raises(StoreCorruptError, match="damaged"):
            damaged.inspect(rest)
        assert damaged.damage is not None
    finally:
        damaged.close()


ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


class Endless(sqlite3.Connection):
    """Looks at its pages without an end."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute(ENDLESS) if "quick_check" in sql else super().execute(sql, *parameters)


def test_a_look_at_the_pages_can_be_ended(store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch):
    store.end_inspection()  # nothing runs
    connect = sqlite3.connect
    monkeypatch.setattr(inspecting, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Endless))
    inspector = inspecting.Inspector(path.parent, store)
    assert soon(lambda: store._database._checking is not None)  # type: ignore[attr-defined]
    inspector.close()
    assert not inspector._thread.is_alive()
    assert store.damage is None


def test_one_process_looks_again_and_again(filled: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspecting, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(inspecting, "EVERY_SECONDS", 0.001)
    looks: list[Inspector] = []

    def look(self: Inspector) -> None:
        looks.append(self)

    monkeypatch.setattr(Inspector, "_inspect", look)
    first, second = Inspector(tmp_path, filled), Inspector(tmp_path, filled)
    try:
        assert soon(lambda: len(looks) >= 20)
        assert len(set(looks)) == 1
    finally:
        first.close()
        second.close()
