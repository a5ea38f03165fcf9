"""SQLite as the store uses it. All its settings are explained here.

`journal_mode=WAL`
    Readers never wait for the writer, nor the writer for readers, within a process or between several.
`synchronous=FULL`
    A commit returns when the log is on the disk. (NORMAL would lose the last commits in a power cut.)
`busy_timeout`
    How long a process waits for another's write before it raises StoreUnavailableError.
`foreign_keys=ON`
    Deleting a gallery deletes its classes, their shots and the shots' images. SQLite's default ignores foreign keys.
`secure_delete=ON`
    Deleted content is overwritten with zeros. By default it stays readable in the file's free pages.
`temp_store=MEMORY`
    No data of a gallery is written to a temporary file.
`journal_size_limit=0`
    When the write-ahead log restarts, it is truncated; its old content does not stay for reuse.

A write transaction begins with BEGIN IMMEDIATE. It has the write lock before it reads, so it can't fail halfway because
another process wrote in between. Within a process, writers queue at a lock, because SQLite itself waits by polling.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.errors import StoreCorruptError, StoreUnavailableError, WriteInDoubtError
from app.store.damage import DAMAGED, Damage
from app.store.database import Rest, take_number
from app.store.mark import MARK, Mark, count_commit
from app.store.reserve import RESERVE, Reserve

BUSY_TIMEOUT_S = 10.0
#: How long a checkpoint after a deletion waits for readers. If that fails, it is repeated after the pause below.
SCRUB_TIMEOUT_MS = 250
#: How long replaced shots may stay in the write-ahead log (longer while readers hold it).
SCRUB_PAUSE_S = 2.0
#: More than the threads of a server's pools, so that no reader waits for a connection.
MAX_CONNECTIONS = 64

_PER_CONNECTION = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 0",
)
#: Quotas and file size limits raise the second of these.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate SQLite's errors about its file into StoreCorruptError or StoreUnavailableError.

    A violated constraint or an invalid statement is a bug in this code. Such errors pass unchanged.
    """
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        code = _code(cause) & 0xFF  # the low byte is the primary code
        if code in _DAMAGED:
            raise StoreCorruptError(f"The store's database is damaged: {cause}.") from error
        if isinstance(cause, sqlite3.OperationalError):
            raise StoreUnavailableError(f"The store can't be used now: {cause}.") from error
        raise
    except sa.exc.TimeoutError as error:
        raise StoreUnavailableError("The store can't be used now: all connections are taken.") from error


class Database:
    """One SQLite file, opened or created: transactions from any thread, and a cheap check for changes.

    Any method raises StoreUnavailableError or StoreCorruptError when the file can't be used. `write` raises
    WriteInDoubtError when it is unknown whether it has committed.
    """

    remote = False

    def __init__(self, path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.name = str(path)
        self.damage = Damage(path.with_name(path.name + DAMAGED))
        self._mark = Mark(path)
        self._reserve = Reserve(path.with_name(path.name + RESERVE))
        self._started = False
        self._busy_timeout_ms = round(1000 * busy_timeout_s)
        self._engine = _make_engine(path, busy_timeout_s)
        self._writers = self._engine.execution_options(begin_immediate=True)
        self._write_lock = threading.Lock()
        self._scrub_due = False
        self._scrub_timer: threading.Timer | None = None
        self._checking: sqlite3.Connection | None = None
        self._closed = False
        self._written = 0
        # This connection never writes, so SQLite's data_version changes with each commit of any other connection, in
        # this process or another.
        self._watch_lock = threading.Lock()
        with translated_errors():
            self._watch = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)

    def check(self) -> None:
        """See `app.store.database.Database.check`."""
        if self._mark.exists:
            with self.read() as connection:
                self._mark.check(connection)

    def start(self) -> None:
        """Switch the file to WAL, permanently. Not done by the constructor, because it changes the file."""
        with self._watch_lock, translated_errors():
            mode = self._watch.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
        if mode != "wal":
            raise StoreUnavailableError(f"The file system of the store has no shared memory (journal mode {mode}).")
        with self.write() as connection:  # no one else can commit between reading the place and marking it
            self._mark.open(connection)
        self._started = self.damage.watching = True
        self.scrub_soon()  # a killed process may have left deleted content

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run statements on one snapshot."""
        self._check_open()
        with self.damage.noted(), translated_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Run statements in one transaction: durable at the end of the block, rolled back when it raises."""
        with self._write_lock:
            self._check_open()
            with self.damage.noted(), translated_errors(), self._writers.connect() as connection:
                take_number(connection)  # discard that of a failed transaction
                transaction = connection.begin()
                try:
                    before = _changed_rows(connection)
                    yield connection
                    changed = self._started and _changed_rows(connection) != before
                    commits = count_commit(connection) if changed else 0
                except BaseException:
                    transaction.rollback()
                    raise
                _commit(transaction)
                if changed:
                    self._mark.set(commits)
                self._written = max(self._written, take_number(connection))
            if self._scrub_due:
                self._scrub()

    def version(self) -> int:
        """Return a number that changes with every commit of any thread or process."""
        with self._watch_lock, translated_errors():
            self._check_open()
            return int(self._watch.execute("PRAGMA data_version").fetchall()[0][0])

    def written(self) -> int:
        """Return the number of the latest log entry that this object wrote."""
        return self._written

    def age(self) -> float:
        """Return 0: a file can always be asked."""
        return 0.0

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yield True: a lock in the data folder already excludes other processes (`app.home.lock`)."""
        yield True

    def check_structure(self, rest: Rest) -> bool:
        """Run SQLite's check of all pages, one table at a time: a long read would block the log's truncation."""
        self._check_open()
        with self.damage.noted(), translated_errors(), closing(sqlite3.connect(self.name)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            self._checking = connection
            try:
                return all(_check_table(connection, table, rest) for (table,) in tables)
            finally:
                self._checking = None

    def interrupt_check(self) -> None:
        """Make the check raise StoreUnavailableError."""
        checking = self._checking
        if checking is not None:
            with suppress(sqlite3.ProgrammingError):  # it has just ended
                checking.interrupt()

    def scrub(self) -> None:
        """Truncate the write-ahead log, which may still contain deleted content; later, if readers hold it."""
        with self._write_lock:
            if not self._closed:  # else closing has truncated it
                self._scrub()

    def scrub_soon(self) -> None:
        """Truncate it within SCRUB_PAUSE_S, once for all calls until then. An enrolment does not wait for it."""
        with self._write_lock:
            self._scrub_later()

    def _scrub_later(self) -> None:
        if self._scrub_timer is None and not self._closed:
            self._scrub_timer = threading.Timer(SCRUB_PAUSE_S, self._scrub_now)
            self._scrub_timer.daemon = True
            self._scrub_timer.start()

    def _scrub_now(self) -> None:
        with self._write_lock:
            self._scrub_timer = None
            if not self._closed:
                self._scrub()

    def _scrub(self) -> None:
        connection = self._engine.raw_connection()
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {SCRUB_TIMEOUT_MS}")
                try:
                    busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
                finally:
                    cursor.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")
            self._scrub_due = bool(busy)
        except sqlite3.Error:  # the deletion is committed; only the last copy of its content has to wait
            self._scrub_due = True
        finally:
            connection.close()
        if self._scrub_due:
            self._scrub_later()

    def is_full(self, error: StoreUnavailableError) -> bool:
        """See `app.store.database.Database.is_full`."""
        return isinstance(error.__cause__, sa.exc.DBAPIError) and _code(error.__cause__.orig) in _FULL

    @contextmanager
    def last_resort(self) -> Iterator[None]:
        """See `app.store.database.Database.last_resort`."""
        with translated_errors(), self._reserve.spent():
            yield

    def keep_reserve(self, size: int) -> None:
        """See `app.store.database.Database.keep_reserve`."""
        self._reserve.keep(size)

    def fill_reserve(self) -> None:
        """See `app.store.database.Database.fill_reserve`."""
        self._reserve.fill()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("The store is closed.")

    def close(self) -> None:
        """Close all connections. The last connection to the file also empties its write-ahead log."""
        with self._write_lock, self._watch_lock:
            self._closed = True
            if self._scrub_timer is not None:
                self._scrub_timer.cancel()
            self._watch.close()
            self._engine.dispose()
            self._mark.close()


def _check_table(connection: sqlite3.Connection, table: str, rest: Rest) -> bool:
    began = time.monotonic()
    [first, *_] = connection.execute("SELECT * FROM pragma_quick_check(?)", (table,)).fetchall()
    if first != ("ok",):
        raise StoreCorruptError(f"The store's database is damaged: {first[0]}.")
    return rest(time.monotonic() - began)


def _code(error: BaseException | None) -> int:
    return int(getattr(error, "sqlite_errorcode", 0))


def _changed_rows(connection: sa.Connection) -> int:
    """Number of rows that the connection has changed since it was opened."""
    driver: Any = connection.connection.driver_connection
    return int(driver.total_changes)


def beside(store: Path) -> list[Path]:
    """The files that may exist beside a store's file."""
    return [store.with_name(store.name + end) for end in ("-wal", "-shm", MARK, DAMAGED, RESERVE)]


def _commit(transaction: sa.RootTransaction) -> None:
    try:
        transaction.commit()
    except sa.exc.DBAPIError as error:
        if _code(error.orig) != sqlite3.SQLITE_IOERR_FSYNC:
            raise
        # the log has the whole change, but whether the disk has it is unknown: the next start may find it
        raise WriteInDoubtError(
            f"The disk failed while the change was being committed ({error.orig}), so it may be made or not; look "
            "before asking again."
        ) from error


def _make_engine(path: Path, busy_timeout_s: float) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=str(path)),
        pool_size=8,
        max_overflow=MAX_CONNECTIONS - 8,
        connect_args={"timeout": busy_timeout_s},
        execution_options={"ids": _take_ids, "search": _search},
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions: _begin does
        for pragma in _PER_CONNECTION:
            connection.execute(pragma).close()
        connection.create_function("casefold", 1, str.casefold, deterministic=True)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("begin_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _take_ids(connection: sa.Connection, table: sa.Table, count: int) -> Sequence[int]:
    """Return ids as AUTOINCREMENT would assign them, which would cost a statement per row.

    The transaction has the write lock, so no other can take them.
    """
    query = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name").bindparams(name=table.name)
    last = connection.execute(query).scalar_one_or_none() or 0
    return range(last + 1, last + 1 + count)


def _search(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], label: sa.Column[str], text: str, limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """SQLite's LIKE scans the labels in the index four times as fast, but ignores the case of A to Z only."""
    if text.isascii():
        found = label.contains(text, autoescape=True)
    else:
        found = sa.func.instr(sa.func.casefold(label), text.casefold()) > 0
    return connection.execute(query.where(found).order_by(label).limit(limit)).all()
