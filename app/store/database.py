"""Interface of a database, so that the store's statements are the same for each kind.

Two operations depend on the kind of database: assigning ids (`ids`) and searching labels (`search`). They are execution
options of its connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

import sqlalchemy as sa

from app.errors import StoreUnavailableError
from app.store.damage import Damage

T = TypeVar("T")

#: `(connection, table, count)`: ids that the table never had, ascending; no other transaction gets them.
TakeIds: TypeAlias = Callable[[sa.Connection, sa.Table, int], Sequence[int]]
#: `(connection, query, label, text, limit)`: the first rows of the query, by label, whose label contains the text in
#: any case (only A to Z, if the text is ASCII). Wildcards in the text are literal.
Search: TypeAlias = Callable[
    [sa.Connection, sa.Select[*tuple[Any, ...]], sa.Column[str], str, int], Sequence[sa.Row[*tuple[Any, ...]]]
]

#: Called with the seconds that a read took; waits as long as it wants, and returns whether to continue.
Rest: TypeAlias = Callable[[float], bool]

_NUMBER = "oneshot_number"


class Database(Protocol):
    """Transactions from any thread, and a cheap check for changes.

    Any method raises StoreUnavailableError or StoreCorruptError when the database can't be used.
    """

    name: str  # for messages; without a password
    remote: bool  # see `Store.remote`
    damage: Damage

    def check(self) -> None:
        """Raise StartupError for a store that lacks committed data, before anything in it is changed."""
        ...

    def start(self) -> None:
        """Prepare what the store needs, once the schema is up to date."""
        ...

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Run statements on one snapshot."""
        ...

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Run statements in one transaction: durable at the end of the block, rolled back when it raises.

        There is one at a time over all processes, and it is visible to others before the next begins. So the numbers of
        log entries become visible in order.
        """
        ...

    def version(self) -> int:
        """See `Store.version`."""
        ...

    def written(self) -> int:
        """See `Store.written`."""
        ...

    def age(self) -> float:
        """See `Store.age`."""
        ...

    def alone(self) -> AbstractContextManager[bool]:
        """Try to take the lock for work that one process at a time does, and yield whether this one has it."""
        ...

    def check_structure(self, rest: Rest) -> bool:
        """Run the database's own check of its pages, if any. False if `rest` ended it. Raises StoreCorruptError."""
        ...

    def interrupt_check(self) -> None:
        """Make a `check_structure` in another thread raise StoreUnavailableError."""
        ...

    def scrub(self) -> None:
        """Erase deleted content, as far as the database can; later, if readers hold it."""
        ...

    def scrub_soon(self) -> None:
        """`scrub` within seconds, once for all calls until then."""
        ...

    def is_full(self, error: StoreUnavailableError) -> bool:
        """Whether the error was raised because the disk is full, so that `last_resort` may help."""
        ...

    def last_resort(self) -> AbstractContextManager[None]:
        """Free the disk's reserve for the writes in the block, such as deletions."""
        ...

    def keep_reserve(self, size: int) -> None:
        """Reserve this many bytes of the disk, as soon as it has them."""
        ...

    def fill_reserve(self) -> None:
        """Reserve the missing rest, if the disk has it now."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def vital(database: Database, write: Callable[[], T]) -> T:
    """Run a write that must succeed even when the disk is full."""
    try:
        return write()
    except StoreUnavailableError as error:
        if not database.is_full(error):
            raise
    with database.last_resort():
        return write()


def note_number(connection: sa.Connection, seq: int) -> None:
    """Note the number of a log entry that the transaction has written, for the commit."""
    connection.info[_NUMBER] = seq


def noted_number(connection: sa.Connection) -> int:
    """Return the last number noted in this transaction, 0 if none."""
    return int(connection.info.get(_NUMBER, 0))


def take_number(connection: sa.Connection) -> int:
    """Return and clear the last noted number, 0 if none."""
    return int(connection.info.pop(_NUMBER, 0))


def take_ids(connection: sa.Connection, table: sa.Table, count: int) -> list[int]:
    """Return ids that the table never had. The transaction must be one of `Database.write`."""
    take: TakeIds = connection.get_execution_options()["ids"]
    return list(take(connection, table, count))


def search(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], label: sa.Column[str], text: str, limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Return the first rows of the query, by label, whose label contains the text in any case."""
    look: Search = connection.get_execution_options()["search"]
    return look(connection, query, label, text, limit)
