"""PostgreSQL as the store uses it. All its settings are explained here.

A write transaction begins by taking an advisory lock that all processes share, and that ends with the transaction. So
there is one writer at a time, as with SQLite, and the numbers of log entries become visible in order: the server shows
a transaction's rows before it releases its locks. No follower can skip an entry that commits late. Write transactions
are READ COMMITTED, because a snapshot for the whole transaction would be taken before the lock. Read transactions are
REPEATABLE READ: one snapshot.

`lock_timeout`
    How long a writer waits for the lock before it raises StoreUnavailableError.
`idle_in_transaction_session_timeout`
    A process that is stopped while it holds the lock loses it.
`synchronous_commit`
    A commit returns when the log is on the disk, even if the server's own setting is `off`.
`connect_timeout`, `keepalives_…`, `tcp_user_timeout`
    A server that has vanished from the network is noticed within seconds.

The driver is psycopg 3, in the extra `postgres`. Only SQLAlchemy imports it.
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

#: Arbitrary numbers that no other application uses: "oneshot" in ASCII, and the next.
_WRITE_LOCK = 0x6F6E6573686F74
_WORK_LOCK = _WRITE_LOCK + 1
#: Enough for the threads of a server that use the store. By default PostgreSQL allows 100 connections in all.
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
#: Read-only transaction, and insufficient privilege.
_REFUSED = ("25006", "42501")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of the server or the connection into StoreCorruptError or StoreUnavailableError.

    A violated constraint or an invalid statement is a bug in this code. Such errors pass unchanged.
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
    """One PostgreSQL database: transactions from any thread, and a cheap check for changes.

    Any method raises StoreUnavailableError or StoreCorruptError when the server can't be used. `write` raises
    WriteInDoubtError when it is unknown whether it has committed. The constructor raises StartupError.
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
        """Does nothing: the server checks its log itself."""

    def start(self) -> None:
        """Start listening for commits of other processes."""
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
        """Run statements in one transaction: durable at the end of the block, rolled back when it raises."""
        self._check_there()
        with self.damage.noted(), translated_errors(), self._engine.connect() as connection:
            take_number(connection)  # discard that of a failed transaction
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
        """Return a number that changes with every commit of this process, and of others once it is noticed."""
        self._check_open()
        return self._listener.version

    def written(self) -> int:
        """Return the number of the latest log entry that this object wrote."""
        return self._listener.written

    def age(self) -> float:
        """Return for how many seconds the server has not answered; 0 while it does."""
        return self._listener.age()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Try to take a lock that ends with this process, and yield whether it was free."""
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
        """Does nothing: the server checks its pages itself (`data_checksums`)."""
        return True

    def interrupt_check(self) -> None:
        """Does nothing: see `check_structure`."""

    def scrub(self) -> None:
        """Does nothing: the server overwrites deleted rows when it vacuums, and removes old log by its own rules."""

    def scrub_soon(self) -> None:
        """Does nothing: see `scrub`."""

    def is_full(self, error: StoreUnavailableError) -> bool:  # noqa: ARG002
        """Return False: the disk is the server's."""
        return False

    @contextmanager
    def last_resort(self) -> Iterator[None]:
        """Does nothing: see `is_full`."""
        yield

    def keep_reserve(self, size: int) -> None:
        """Does nothing: see `is_full`."""

    def fill_reserve(self) -> None:
        """Does nothing: see `is_full`."""

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("The store is closed.")

    def _check_there(self) -> None:
        self._check_open()
        silent = self._listener.age()
        if silent > SILENT_SECONDS:  # it may not even refuse connections: don't let threads wait for it
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
            paramstyle="format",  # positional: see `app.store.bulk_insert`
            pool_pre_ping=True,  # connections are dead after the server was unavailable
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
    """The next ids of the table's sequence. The transaction has the write lock, so they are consecutive."""
    if not count:
        return ()
    [key] = table.primary_key
    own = sa.func.pg_get_serial_sequence(table.name, key.name)
    last: int = connection.execute(sa.select(sa.func.setval(own, sa.func.nextval(own) + (count - 1)))).scalar_one()
    return range(last + 1 - count, last + 1)


def _search(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], label: sa.Column[str], text: str, limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """With the labels' collation, the server ignores the case of A to Z only. For other letters Python does it."""
    if text.isascii():
        found = query.where(label.icontains(text, autoescape=True)).order_by(label).limit(limit)
        return connection.execute(found).all()
    wanted = text.casefold()
    with connection.execute(query.order_by(label).execution_options(yield_per=_AT_ONCE)) as rows:
        return list(islice((row for row in rows if wanted in row._mapping[label].casefold()), limit))
