"""Inspection of a whole store: it finds damage that no request has hit yet, and reports an intact store as intact."""

import random
import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import StoreCorruptError
from app.pace import Pace
from app.service.inspector import Inspector
from app.store import OnConflict, SqlStore
from app.store.database import Rest
from testing.served import Where
from testing.stores import support
from tests.app.store.conftest import soon
from tests.app.store.test_damage import run

TABLES = ["images", "supports", "embeddings"]


def rest(_seconds: float) -> bool:
    return True


@pytest.fixture
def filled(store: SqlStore) -> SqlStore:
    # more than one inspection step covers
    items = [support(f"c{number}", (number, 1), b"image %d" % number) for number in range(150)]
    store.enroll("g", items, OnConflict.REPLACE)
    for model in ("m1", "m2"):
        store.models.add_vectors(model, range(1, 101), np.ones((100, 2), np.float32))
    return store


def test_a_whole_store_is_whole(filled: SqlStore):
    assert filled.inspect(rest)
    assert filled.damage is None


@pytest.mark.parametrize("table", TABLES)
def test_damage_in_any_row_is_found(filled: SqlStore, table: str, caplog: pytest.LogCaptureFixture):
    key = "id" if table == "supports" else "support_id"
    run(filled, f"UPDATE {table} SET checksum = checksum + 1 WHERE {key} = 80")  # noqa: S608
    count = 2 if table == "embeddings" else 1
    with pytest.raises(StoreCorruptError, match=f"damaged: {count} "):
        filled.inspect(rest)
    assert filled.damage is not None
    assert sum("row_damaged" in record.message for record in caplog.records) == count
    run(filled, f"UPDATE {table} SET checksum = checksum - 1 WHERE {key} = 80")  # noqa: S608
    time.sleep(0.2)
    assert filled.inspect(rest)
    if filled.remote:
        return  # on a server, each process keeps its own record of damage
    assert filled.damage is None


def test_what_has_no_checksum_gets_one(filled: SqlStore, monkeypatch: pytest.MonkeyPatch):
    for table in TABLES:
        run(filled, f"UPDATE {table} SET checksum = NULL")  # noqa: S608
    assert filled.inspect(rest)
    with filled.database.read() as connection:
        for table in TABLES:
            query = f"SELECT count(*) FROM {table} WHERE checksum IS NULL"  # noqa: S608
            assert connection.exec_driver_sql(query).scalar_one() == 0
    monkeypatch.setattr(filled.database, "write", None)
    assert filled.inspect(rest), "the second look writes nothing"


def test_it_ends_when_it_is_told_and_takes_nothing_back(filled: SqlStore):
    filled.database.damage.note("found before")
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
    """Runs `quick_check` without end."""

    looking = threading.Event()

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if "quick_check" not in sql:
            return super().execute(sql, *parameters)
        self.looking.set()
        return super().execute(ENDLESS)


def test_a_look_at_the_pages_can_be_ended(store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch):
    store.end_inspection()  # no inspection is running
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Endless))
    inspector = Inspector(path.parent, store, Pace(inspection_first=0))
    assert Endless.looking.wait(10)
    inspector.close()
    assert "inspect" not in {thread.name for thread in threading.enumerate()}
    assert store.damage is None


def test_one_process_looks_again_and_again(store: SqlStore, where: Where, tmp_path: Path, monkeypatch):
    looks: list[SqlStore] = []

    def look(which: SqlStore, _rest: Rest) -> bool:
        looks.append(which)
        return True

    monkeypatch.setattr(SqlStore, "inspect", look)
    quick = Pace(inspection_first=0.001, inspection_every=0.001)
    with closing(SqlStore(where)) as other:
        inspectors = [Inspector(tmp_path, each, quick) for each in (store, other)]
        try:
            assert soon(lambda: len(looks) >= 20)
            assert len(set(looks)) == 1
        finally:
            for inspector in inspectors:
                inspector.close()
