"""What the store asks of a database, so that its statements are the same for each of them.

What a database does in a way of its own travels with its connections, as execution options: how it gives out ids
(`ids`) and how it looks for a text in labels (`search`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

import sqlalchemy as sa

from app.errors import StoreUnavailableError
from app.store.damage import Damage

T = TypeVar("T")

#: `(connection, table, count)`: ids that the table never had, ascending; nobody else gets them.
TakeIds: TypeAlias = Callable[[sa.Connection, sa.Table, int], Sequence[int]]
#: `(connection, query, label, text, limit)`: the first rows of the query, by label, whose label contains the text in
#: upper or lower case (of A to Z only, where the text has no other letters); its wildcards are letters like any other.
Search: TypeAlias = Callable[
    [sa.Connection, sa.Select[*tuple[Any, ...]], sa.Column[str], str, int], Sequence[sa.Row[*tuple[Any, ...]]]
]

#: Told for how many seconds the database was read; waits as it likes, and says whether to go on.
Rest: TypeAlias = Callable[[float], bool]

_NUMBER = "oneshot_number"


class Database(Protocol):
    """Transactions from any thread, and a cheap look whether anything changed.

    Any method raises StoreUnavailableError or StoreCorruptError when the database can't be used.
    """

    name: str  # for messages; without a password
    remote: bool  # see `Store.remote`
    damage: Damage

    def check(self) -> None:
        """Raise StartupError for a store that lacks what was committed to it, before anything of it is changed."""
        ...

    def start(self) -> None:
        """Make ready what the store needs, once the schema is up to date."""
        ...

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Run statements on one snapshot."""
        ...

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Run statements in one transaction, durable when the block is left, undone when it raises.

        One at a time, in all processes, and visible to others before the next one begins: so the numbers that they
        give to entries of the change log become visible in order.
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
        """Hold what one process at a time may hold, and tell whether this one does: for work that one is to do."""
        ...

    def check_structure(self, rest: Rest) -> bool:
        """Have the database look at its own pages, if it can; False where `rest` ended it. Raises StoreCorruptError."""
        ...

    def interrupt_check(self) -> None:
        """Have a `check_structure` in another thread raise StoreUnavailableError."""
        ...

    def scrub(self) -> None:
        """Leave no trace of what was deleted, as far as the database can; later, if readers hold it."""
        ...

    def scrub_soon(self) -> None:
        """Do it within seconds, however often this is called."""
        ...

    def is_full(self, error: StoreUnavailableError) -> bool:
        """Whether it was raised because the disk is full, so that `last_resort` may help."""
        ...

    def last_resort(self) -> AbstractContextManager[None]:
        """Give what is reserved of the disk to what is written in the block: a deletion, which makes room."""
        ...

    def keep_reserve(self, size: int) -> None:
        """Reserve so many bytes of the disk, as soon as it has them."""
        ...

    def fill_reserve(self) -> None:
        """Reserve what is lacking of it, if the disk has it by now."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def vital(database: Database, write: Callable[[], T]) -> T:
    """Do what has to be written also when the disk is full."""
    try:
        return write()
    except StoreUnavailableError as error:
        if not database.is_full(error):
            raise
    with database.last_resort():
        return write()


def note_number(connection: sa.Connection, seq: int) -> None:
    """Note, for the one who commits, the number of an entry that the transaction wrote into the change log."""
    connection.info[_NUMBER] = seq


def noted_number(connection: sa.Connection) -> int:
    """Return the last number that was noted in this transaction, 0 for none."""
    return int(connection.info.get(_NUMBER, 0))


def take_number(connection: sa.Connection) -> int:
    """Return the last number that was noted since this was last called, 0 for none."""
    return int(connection.info.pop(_NUMBER, 0))


def take_ids(connection: sa.Connection, table: sa.Table, count: int) -> list[int]:
    """Return ids that the table never had; the transaction must be one of `Database.write`."""
    take: TakeIds = connection.get_execution_options()["ids"]
    return list(take(connection, table, count))


def search(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], label: sa.Column[str], text: str, limit: int
) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Return the first rows of the query, by label, whose label contains the text in upper or lower case."""
    look: Search = connection.get_execution_options()["search"]
    return look(connection, query, label, text, limit)
