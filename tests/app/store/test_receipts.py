"""A request repeated with the same idempotency key is done once, on both stores."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.errors import ClassExistsError, KeyReusedError, OneshotError
from app.store import Once, OnConflict, SqlStore
from app.store.schema import receipts
from testing.stores import support

ADD, FAIL, REPLACE = OnConflict.ADD, OnConflict.FAIL, OnConflict.REPLACE
ONCE = Once("key", "request")


def add(store: SqlStore, once: Once = ONCE, label: str = "a", on_conflict: OnConflict = ADD) -> str:
    return store.enroll_once(once, "g", [support(label)], on_conflict, lambda done: str(done[0].class_record.supports))


def kept(store: SqlStore) -> list[str]:
    with store.database.read() as connection:
        return list(connection.execute(sa.select(receipts.c.key).order_by(receipts.c.number)).scalars())


def age(store: SqlStore, hours: float) -> None:
    with store.database.write() as connection:
        connection.execute(sa.update(receipts).values(at=datetime.now(UTC) - timedelta(hours=hours)))


def test_the_second_time_nothing_is_written_and_the_answer_is_the_first(store: SqlStore):
    assert store.answered(ONCE) is None
    assert add(store) == "1"
    assert add(store, Once("another", "request")) == "2"
    assert add(store) == "1"
    assert store.answered(ONCE) == "1"
    assert store.get_class("g", "a").supports == 2


def test_another_request_with_the_key_is_refused(store: SqlStore):
    add(store)
    for again in (lambda: add(store, Once("key", "other"), "b"), lambda: store.answered(Once("key", "other"))):
        with pytest.raises(KeyReusedError):
            again()
    assert [each.label for each in store.list_classes("g", 9).items] == ["a"]


def test_a_restart_and_another_process_know_it(store: SqlStore, where: Path | str):
    add(store, on_conflict=FAIL)
    number = store.written()
    store.enroll("g", [support("b")], REPLACE)
    store.close()
    again = SqlStore(where)
    try:
        assert again.written() == 0
        assert add(again, on_conflict=FAIL) == "1", "the class exists: it is this request that made it"
        assert again.written() == number, "who asks for this version sees what was done the first time"
    finally:
        again.close()
    third = SqlStore(where)
    try:
        assert third.answered(ONCE) == "1"
        assert third.written() == number
    finally:
        third.close()


def test_what_failed_leaves_no_receipt(store: SqlStore):
    store.enroll("g", [support("a")], REPLACE)
    with pytest.raises(ClassExistsError):
        add(store, on_conflict=FAIL)
    store.remove_class("g", "a")
    assert add(store, on_conflict=FAIL) == "1"


def test_many_at_once_are_done_once(store: SqlStore):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: add(store), range(16))) == {"1"}
    assert store.get_class("g", "a").supports == 1


def test_many_at_once_of_different_requests_are_one_and_refusals(store: SqlStore):
    def attempt(number: int) -> str:
        try:
            return add(store, Once("key", f"request {number}"), f"c{number}")
        except OneshotError as error:
            return error.slug

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert sorted(outcomes) == ["1"] + ["idempotency-key-reused"] * 7
    assert len(store.list_classes("g", 9).items) == 1


def test_receipts_end_after_a_day(store: SqlStore):
    add(store)
    age(store, hours=23.9)
    assert add(store) == "1"
    age(store, hours=24.1)
    assert store.answered(ONCE) is None
    assert add(store, Once("key", "other")) == "2", "an ended key may come with another request"
    assert kept(store) == ["key"]


def test_only_the_latest_are_kept(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.store.receipts.KEPT_RECEIPTS", 3)
    for number in range(5):
        add(store, Once(f"key {number}", "request"))
    assert kept(store) == ["key 2", "key 3", "key 4"]


def test_a_deleted_class_leaves_no_label_in_a_receipt(store: SqlStore, where: Path | str):
    store.enroll_once(ONCE, "g", [support("a person's name")], ADD, lambda _: "{}")
    store.remove_class("g", "a person's name")
    assert store.answered(ONCE) == "{}"
    if isinstance(where, Path):
        assert b"person" not in where.read_bytes()
