"""Receipts: answers to requests with an Idempotency-Key, kept in case a request is sent again.

A receipt is written in the transaction of its request, so it exists exactly if the request was done. It has digests of
the key and of the request, and no label, so it reveals nothing about a deleted class.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from app.errors import KeyReusedError
from app.store.base import Once
from app.store.database import note_number, noted_number
from app.store.schema import receipts

#: How long receipts are kept, and how many of the latest.
KEPT_FOR = timedelta(hours=24)
KEPT_RECEIPTS = 100_000


def find_receipt(connection: sa.Connection, once: Once) -> str | None:
    """Return the answer to the request if it was done. Sets the transaction's number to that of the original one.

    Raises KeyReusedError when the key came with another request.
    """
    since = datetime.now(UTC) - KEPT_FOR
    query = sa.select(receipts).where(receipts.c.key == once.key, receipts.c.at >= since)
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    if found.request != once.request:
        raise KeyReusedError("This Idempotency-Key was sent with another request; take a new key for each.")
    note_number(connection, found.seq)
    answer: str = found.answer
    return answer


def keep_receipt(connection: sa.Connection, once: Once, answer: str) -> None:
    """Store the answer to the request, and drop receipts that are old or too many."""
    now = datetime.now(UTC)
    connection.execute(sa.delete(receipts).where(receipts.c.at < now - KEPT_FOR))
    values = {"key": once.key, "request": once.request, "answer": answer, "seq": noted_number(connection), "at": now}
    number = connection.execute(sa.insert(receipts).values(values).returning(receipts.c.number)).scalar_one()
    connection.execute(sa.delete(receipts).where(receipts.c.number <= number - KEPT_RECEIPTS))
