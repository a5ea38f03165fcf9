"""PostgreSQL as the store uses it: every setting, chosen and explained in this one place.

Write transactions begin by taking an advisory lock that all processes share and that ends with them. So there is one
writer at a time, as with SQLite, and the code above may rest on it: the numbers of the change log's entries become
visible in order (the server shows a transaction's rows before it lets go of its locks), and no follower can pass over
one that commits late. They are READ COMMITTED, because a snapshot for all of the transaction would be taken before the
lock is there. Read transactions are REPEATABLE READ: one snapshot.

`lock_timeout`
    How long a writer waits for the lock before it gives up with StoreUnavailableError.
`idle_in_transaction_session_timeout`
    A process that was stopped while it has the lock loses it.
`synchronous_commit`
    A commit returns when the log is on the disk, also where the server's own setting is `off`.
`connect_timeout`, `keepalives_…`, `tcp_user_timeout`
    A server that has vanished from the network is noticed within seconds.

The driver is psycopg 3, which only SQLAlchemy imports: it is in the extra `postgres`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import sqlalchemy as sa

from app.errors import StartupError, StoreCorruptError, StoreUnavailableError, WriteInDoubtError
from app.store.damage import Damage
from app.store.database import Rest, take_number
from app.store.notices import SILENT_SECONDS, Listener, one_line

#: Any numbers, so long as they are always the same and nobody else's: "oneshot" in ASCII, and the next.
_WRITE_LOCK = 0x6F6E6573686F74
_WORK_LOCK = _WRITE_LOCK + 1
#: For the threads of a server that use the store, with room; a server has 100 connections for all, by default.
_CONNECTIONS, _MORE_CONNECTIONS = 6, 12
_IDLE_SECONDS = 60
_AT_ONCE = 500

_CONNECT = {
    "application_name": "oneshot",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8_000,
}
_DAMAGED = ("XX001", "XX002")
#: Read-only, or something that this user may not do.
_REFUSED = ("25006", "42501")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the server or the way to it reports into StoreCorruptError or StoreUnavailableError.

    A violated constraint or a wrong statement is a bug of ours, and passes as it is.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or ""
        if code in _DAMAGED:
            raise StoreCorruptError(f"The store's database is damaged: {one_line(error)}.") from error
        if isinstance(error, sa.exc.OperationalError) or error.connection_invalidated or code in _REFUSED:
            raise StoreUnavailableError(f"The store can't be used now: {one_line(error)}.") from error
        raise
    except sa.exc.TimeoutError as error:
        raise StoreUnavailableError("The store can't be used now: all connections are taken.") from error


class Database:
    """One PostgreSQL database: transactions from any thread, and a cheap look whether anything changed.

    Any method raises StoreUnavailableError or StoreCorruptError when the server can't be used, and `write`
    WriteInDoubtError when it can't be known whether it has committed. The constructor raises StartupError.
    """

    remote = True

    def __init__(self, url: str, name: str, lock_timeout_s: float) -> None:
        self.name = name
        self.damage = Damage()
        self._engine = _make_engine(url, lock_timeout_s)
        self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._listener = Listener(
            _make_engine(url, lock_timeout_s, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        )
        self._closed = False

    def check(self) -> None:
        """Nothing: the server looks after its log itself."""

    def start(self) -> None:
        """Listen for other processes' commits."""
        self.damage.watching = True
        self._listener.start()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run statements on one snapshot."""
        self._check_there()
        with self.damage.noted(), translated_errors(), self._readers.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Run statements in one transaction, durable when the block is left, undone when it raises."""
        self._check_there()
        with self.damage.noted(), translated_errors(), self._engine.connect() as connection:
            take_number(connection)  # of a transaction that failed
            transaction = connection.begin()
            try:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITE_LOCK)))
                yield connection
                number = take_number(connection)
                self._listener.notice(connection, number)
            except BaseException:
                transaction.rollback()
                raise
            _commit(transaction)
        self._listener.committed(number)

    def version(self) -> int:
        """Return a number that changes with every commit of this process, and of others once it has heard of them."""
        self._check_open()
        return self._listener.version

    def written(self) -> int:
        """Return the number of the latest entry of the change log that was written by this object."""
        return self._listener.written

    def age(self) -> float:
        """Return for how many seconds the server has not answered; 0 while it does."""
        return self._listener.age()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold a lock that ends with this process, and tell whether it was free."""
        self._check_there()
        with translated_errors(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            mine = bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(_WORK_LOCK))).scalar_one())
            try:
                yield mine
            finally:
                if mine and not connection.invalidated:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(_WORK_LOCK)))

    def check_structure(self, rest: Rest) -> bool:  # noqa: ARG002
        """Nothing: the server looks after its pages itself (`data_checksums`)."""
        return True

    def interrupt_check(self) -> None:
        """Nothing: see `check_structure`."""

    def scrub(self) -> None:
        """Nothing: the server overwrites what was deleted when it vacuums, and drops old log when it likes."""

    def scrub_soon(self) -> None:
        """Nothing: see `scrub`."""

    def is_full(self, error: StoreUnavailableError) -> bool:  # noqa: ARG002
        """Never: its disk is that of the server."""
        return False

    @contextmanager
    def last_resort(self) -> Iterator[None]:
        """Nothing: see `is_full`."""
        yield

    def keep_reserve(self, size: int) -> None:
        """Nothing: see `is_full`."""

    def fill_reserve(self) -> None:
        """Nothing: see `is_full`."""

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("The store is closed.")

    def _check_there(self) -> None:
        self._check_open()
        silent = self._listener.age()
        if silent > SILENT_SECONDS:  # it may not even refuse: don't let threads wait for it
            raise StoreUnavailableError(f"The store can't be used now: no answer for {silent:.1f} seconds.")

    def close(self) -> None:
        """Close all connections."""
        if not self._closed:
            self._closed = True
            self._listener.close()
            self._engine.dispose()


def _commit(transaction: sa.RootTransaction) -> None:
    try:
        transaction.commit()
    except sa.exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise WriteInDoubtError(
            "The connection to the store broke while it was told to commit, so the change may have been made or not; "
            "look before asking again."
        ) from error


def _make_engine(url: str, lock_timeout_s: float, **options: Any) -> sa.Engine:
    scheme, _, rest = url.partition("://")
    pool = {"pool_size": _CONNECTIONS, "max_overflow": _MORE_CONNECTIONS, "pool_timeout": lock_timeout_s}
    try:
        address = sa.make_url(f"{'postgresql' if scheme == 'postgres' else scheme}+psycopg://{rest}")
        engine = sa.create_engine(
            address,
            paramstyle="format",  # by place: see `app.store.bulk_insert`
            pool_pre_ping=True,  # after the server was away
            connect_args={name: value for name, value in _CONNECT.items() if name not in address.query},
            execution_options={"ids": _take_ids, "search": _search},
            **(options or pool),
        )
    except ModuleNotFoundError as error:
        raise StartupError(f"{error.name} is missing; pip install 'oneshot[postgres]'.") from error
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StartupError("it is no PostgreSQL URL: postgresql://user:password@host:port/database") from error

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        autocommit, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET lock_timeout = {round(1000 * lock_timeout_s)}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {1000 * _IDLE_SECONDS}")
        if connection.execute("SHOW synchronous_commit").fetchone()[0] == "off":
            connection.execute("SET synchronous_commit = on")
        connection.autocommit = autocommit

    return engine


def _take_ids(connection: sa.Connection, table: sa.Table, count: int) -> Sequence[int]:
    """The next ids of the table's sequence; the transaction has the write lock, so that they are all in a row."""
    if not count:
        return ()
    [key] = table.primary_key
    own = sa.func.pg_get_serial_sequence(table.name, key.name)
    last: int = connection.execute(sa.select(sa.func.setval(own, sa.func.nextval(own) + (count - 1)))).scalar_one()
    return range(last + 1 - count, last + 1)


def _search(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], label: sa.Column[str], text: str, limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """In the collation of labels the server folds A to Z; of other letters it knows less than Python."""
    if text.isascii():
        found = query.where(label.icontains(text, autoescape=True)).order_by(label).limit(limit)
        return connection.execute(found).all()
    wanted = text.casefold()
    with connection.execute(query.order_by(label).execution_options(yield_per=_AT_ONCE)) as rows:
        return list(islice((row for row in rows if wanted in row._mapping[label].casefold()), limit))
