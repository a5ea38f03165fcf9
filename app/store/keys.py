"""The API keys in the store."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from app.api_key import Key, Scope
from app.store.database import Database, vital
from app.store.schema import api_keys


class KeyStore:
    """Keys in the database. Methods may be called from any thread; errors as in `Store`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: Key) -> None:
        """Store a new key."""
        row = {
            **key.__dict__,
            "scopes": " ".join(sorted(key.scopes)),
            "galleries": None if key.galleries is None else " ".join(sorted(key.galleries)),
        }
        with self._database.write() as connection:
            connection.execute(sa.insert(api_keys).values(**row))

    def all(self) -> list[Key]:
        """All keys, including revoked ones, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).all()
        return [_key(row) for row in rows]

    def revoke(self, key_id: str) -> bool:
        """Revoke a key. Return whether there was an unrevoked one with this id."""
        found = sa.update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))

        def write() -> bool:
            with self._database.write() as connection:
                return connection.execute(found.values(revoked_at=datetime.now(UTC))).rowcount == 1

        return vital(self._database, write)


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    fields = dict(row._mapping)
    fields["scopes"] = frozenset(map(Scope, fields["scopes"].split()))
    fields["galleries"] = None if fields["galleries"] is None else frozenset(fields["galleries"].split())
    return Key(**fields)
