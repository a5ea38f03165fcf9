"""Checks every image and vector of a store against its checksum, in small steps between requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from app.store.checksums import checksum, is_whole
from app.store.database import Database, Rest
from app.store.schema import embeddings, images, supports
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_COLUMNS = (images.c.image, supports.c.embedding, embeddings.c.embedding)
#: Rows of one transaction. They are read one by one, because an image may have many megabytes.
_ROWS = 64


def count_damaged_rows(database: Database, rest: Rest) -> int | None:
    """Return the number of damaged images and vectors, None if `rest` ended the check early.

    Rows without a checksum get one.
    """
    damaged = 0
    for content in _COLUMNS:
        after: Sequence[object] | None = None
        while True:
            began = time.monotonic()
            keys, lacking, broken = _look(database, content, after)
            if lacking:
                _add_checksums(database, content, lacking)
            for key in broken:
                log.error("row_damaged", table=content.table.name, key=key)
            damaged += len(broken)
            if not rest(time.monotonic() - began):
                return None
            if not keys:
                break
            after = keys[-1]
    return damaged


_Keys = list[list[Any]]


def _look(database: Database, content: sa.Column[bytes], after: Sequence[object] | None) -> tuple[_Keys, _Keys, _Keys]:
    """The keys of the next rows, of those among them without a checksum, and of those that are damaged."""
    key = list(content.table.primary_key)
    query = sa.select(content, content.table.c.checksum, *key).order_by(*key).limit(_ROWS)
    if after is not None:
        query = query.where(sa.tuple_(*key) > sa.tuple_(*map(sa.literal, after)))
    keys, lacking, broken = _Keys(), _Keys(), _Keys()
    with database.read() as connection, connection.execution_options(yield_per=1).execute(query) as rows:
        for blob, expected, *found in rows:
            keys.append(found)
            if expected is None:
                lacking.append(found)
            elif not is_whole(blob, expected):
                broken.append(found)
    return keys, lacking, broken


def _add_checksums(database: Database, content: sa.Column[bytes], keys: _Keys) -> None:
    """Add checksums of the present content to the rows, except those that were deleted meanwhile."""
    table = content.table
    with database.write() as connection:
        for values in keys:
            this = sa.and_(*(column == value for column, value in zip(table.primary_key, values, strict=True)))
            blob = connection.execute(sa.select(content).where(this)).scalar_one_or_none()
            if blob is not None:
                connection.execute(sa.update(table).where(this).values(checksum=checksum(blob)))
