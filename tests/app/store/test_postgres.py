"""Specific to PostgreSQL: the order of the log, notifications received or missed, and a server that is down."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.errors import SchemaTooNewError, StartupError, StoreUnavailableError, WriteInDoubtError
from app.store import OnConflict, SqlStore, postgres
from app.store.notices import LOOK_SECONDS
from app.store.schema import metadata
from testing.postgres import Postgres, connect, missing
from testing.store_processes import peers
from testing.stores import support
from tests.app.store.conftest import soon

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

REPLACE = OnConflict.REPLACE


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    with closing(SqlStore(postgres_url)) as opened:
        yield opened


@pytest.fixture
def other(postgres_url: str) -> Iterator[SqlStore]:
    """A store like that of another process, with its own pool and listener."""
    with closing(SqlStore(postgres_url)) as opened:
        yield opened


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that the test may stop and kill."""
    with Postgres() as server:
        yield server


def heard(store: SqlStore, version: int, seconds: float = 10.0) -> bool:
    """Whether the store notices a change within `seconds`."""
    return soon(lambda: store.version() != version, seconds)


# -- order ---------------------------------------------------------------------------------------------


def test_no_follower_passes_over_an_entry_that_commits_late(postgres_url: str):
    writers, each = 6, 25
    done = threading.Event()
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(SqlStore(postgres_url))) for _ in range(writers + 1)]

        def write(number: int) -> None:
            chance = random.Random(number)
            for place in range(each):
                count = chance.choice([1, 1, 1, 40])  # a mix of short and long transactions
                items = [support(f"{number} {place} {i}") for i in range(count)]
                stores[number].enroll(f"g{number % 3}", items, REPLACE)
                if chance.random() < 0.3:
                    stores[number].remove_class(f"g{number % 3}", f"{number} {place} 0")

        def follow() -> tuple[dict[int, str | None], list[int]]:
            """Follow the log to its end; returns the final state of each class, and the positions passed."""
            classes: dict[int, str | None] = {}
            points = [0]
            last = False
            while True:
                changes = stores[-1].changes_since(points[-1])
                for gallery in changes.galleries:
                    classes.update(gallery.classes)
                points.append(changes.seq)
                if last:
                    return classes, points
                last = done.is_set()

        with ThreadPoolExecutor(writers + 1) as pool:
            following = pool.submit(follow)
            for written in [pool.submit(write, number) for number in range(writers)]:
                written.result()
            done.set()
            followed, points = following.result()
        anew = {
            id_: label for gallery in stores[-1].changes_since(0).galleries for id_, label in gallery.classes.items()
        }
    assert all(before <= after for before, after in pairwise(points))
    assert len(set(points)) > 10, "the follower was never in between"
    assert {id_: label for id_, label in followed.items() if label} == {
        id_: label for id_, label in anew.items() if label
    }


def test_a_transaction_that_fails_leaves_a_gap_and_nothing_else(store: SqlStore):
    store.enroll("g", [support("a")], REPLACE)
    before = store.changes_since(0)
    with pytest.raises(ValueError, match="dimensions"):
        store.enroll("g", [support("b", (1, 2, 3))], REPLACE)
    assert store.changes_since(0).seq == before.seq
    assert store.written() == before.seq
    store.enroll("g", [support("c")], REPLACE)
    assert store.written() == store.head() > before.seq


# -- notifications -------------------------------------------------------------------------------------


def test_a_commit_of_another_process_is_heard_of_at_once(store: SqlStore, postgres_url: str):
    with peers(postgres_url) as [peer]:
        assert peer.answer() == "open"
        soon(lambda: store.age() == 0)
        for number in range(5):
            before = store.version()
            assert peer.do("enroll", "g", f"c{number}", [number, 0], "digest") == "done"
            assert heard(store, before, LOOK_SECONDS / 2), "by a notice, not by a look"


def test_a_lost_notice_is_made_good_by_a_look(store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch):
    other.enroll("g", [support("a")], REPLACE)
    assert soon(lambda: store.version() > 1)
    changes: list[Callable[[], object]] = [
        lambda: other.enroll("g", [support("b")], REPLACE),
        lambda: other.remove_class("g", "a"),
        lambda: other.models.want("another model"),
    ]
    for change in changes:
        seen = store.version()
        monkeypatch.setattr("app.store.notices.Listener.notice", lambda *_: None)
        change()
        monkeypatch.undo()
        assert heard(store, seen, 3 * LOOK_SECONDS)


def test_what_was_committed_while_the_connection_was_broken_is_found(
    store: SqlStore, other: SqlStore, postgres_url: str
):
    other.enroll("g", [support("a")], REPLACE)
    assert soon(lambda: store.version() > 1)
    seen = store.version()
    with closing(connect(postgres_url)) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    other.enroll("g", [support("b")], REPLACE)
    assert soon(lambda: store.version() != seen and store.age() == 0)
    assert store.get_class("g", "b").supports == 1


# -- a server that is down -----------------------------------------------------------------------------


def test_a_stopped_server_and_its_return(own_server: Postgres):
    with closing(SqlStore(own_server.new_store())) as store:
        store.enroll("g", [support("a")], REPLACE)
        for end in (own_server.stop, own_server.kill):
            end()
            for call in (
                lambda: store.enroll("g", [support("b")], REPLACE),
                lambda: store.get_class("g", "a"),
                lambda: store.changes_since(0),
                store.check_writable,
            ):
                with pytest.raises(StoreUnavailableError, match="can't be used now"):
                    call()
            assert soon(lambda: store.age() > 0.1)
            seen = store.version()  # still answers
            own_server.start()
            assert heard(store, seen)
            assert soon(lambda: store.age() == 0)
            assert store.get_class("g", "a").supports == 1
            store.enroll("g", [support("b")], REPLACE)


def test_a_server_that_was_never_there(postgres_url: str):
    with pytest.raises(StartupError, match=r"^Can't open the store postgresql://127\.0\.0\.1:1/x: ") as error:
        SqlStore("postgresql://somebody:secret@127.0.0.1:1/x")
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_writer_that_holds_the_lock_too_long(store: SqlStore, postgres_url: str):
    store.enroll("g", [support("a")], REPLACE)
    with closing(SqlStore(postgres_url, busy_timeout_s=0.1)) as hasty:
        with store.database.write():
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                hasty.enroll("g", [support("b")], REPLACE)
            assert [each.label for each in hasty.list_classes("g", 9).items] == ["a"]  # reads still work
        hasty.enroll("g", [support("b")], REPLACE)


def test_a_connection_that_breaks_during_the_commit_leaves_it_in_doubt(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    import psycopg  # noqa: PLC0415 - an extra

    commit = psycopg.Connection.commit

    def then_break(connection: psycopg.Connection[Any]) -> None:
        commit(connection)
        monkeypatch.undo()
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    store.enroll("g", [support("a")], REPLACE)
    monkeypatch.setattr(psycopg.Connection, "commit", then_break)
    with pytest.raises(WriteInDoubtError, match="made or not"):
        store.enroll("g", [support("b")], REPLACE)
    assert store.get_class("g", "b").supports == 1  # it was committed


# -- schema and statements -----------------------------------------------------------------------------


def test_migrating_from_empty_makes_the_schema_that_the_code_describes(postgres: Postgres):
    migrated, described = postgres.new_database(), postgres.new_database()
    SqlStore(migrated).close()
    engine = sa.create_engine(described.replace("postgresql:", "postgresql+psycopg:"))
    metadata.create_all(engine)
    engine.dispose()
    query = """SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
        ORDER BY 1, 2"""
    indices = (
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1"
    )
    found = []
    for url in (migrated, described):
        with closing(connect(url)) as connection:
            found.append([*connection.execute(query), *connection.execute(indices)])
        postgres.drop(url)
    assert found[0] == found[1]
    assert len(found[0]) > 40


def test_alembic_finds_nothing_to_change(store: SqlStore):
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_of_something_else_and_a_newer_schema_are_refused(postgres_url: str, postgres: Postgres):
    with closing(connect(postgres_url)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError, match="9999"):
        SqlStore(postgres_url)
    strange = postgres.new_database()
    with closing(connect(strange)) as connection:
        connection.execute("CREATE TABLE recipes (id int)")
    with pytest.raises(StartupError, match="recipes"):
        SqlStore(strange)
    postgres.drop(strange)


def test_pages_and_searches_go_through_the_index_in_order(store: SqlStore, postgres_url: str):
    store.enroll("g", [support(f"c{number}", image=None) for number in range(2000)], REPLACE)
    with closing(connect(postgres_url)) as connection:
        connection.execute("ANALYZE classes")
        connection.execute("SET enable_bitmapscan = off")  # with so few rows the planner would sort instead
        for condition in ("", "AND lower(label) LIKE '%' || lower('c1') || '%' ESCAPE '/'"):
            query = "EXPLAIN SELECT label FROM classes WHERE gallery_id = 1 AND label > 'c5'"
            plan = "\n".join(row[0] for row in connection.execute(f"{query} {condition} ORDER BY label LIMIT 100"))
            assert "uq_classes_gallery_id_label" in plan
            assert "Sort" not in plan


def test_every_connection_has_the_settings_that_the_store_rests_on(store: SqlStore, postgres_url: str):
    with closing(connect(postgres_url)) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off")
    with closing(SqlStore(postgres_url)) as opened:
        for begin, isolation, read_only in (
            (opened.database.read, "repeatable read", "on"),
            (opened.database.write, "read committed", "off"),
        ):
            with begin() as connection:
                shown = {
                    name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
                    for name in ("transaction_isolation", "transaction_read_only", "synchronous_commit", "lock_timeout")
                }
            assert shown == {
                "transaction_isolation": isolation,
                "transaction_read_only": read_only,
                "synchronous_commit": "on",
                "lock_timeout": "10s",
            }
    assert isinstance(store.database, postgres.Database)
