"""Storage for model changes: vectors by another model beside the present ones, and the switch to them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from app.store.checksums import checked, checksum
from app.store.database import Database
from app.store.log import record_settings
from app.store.schema import classes, embeddings, galleries, images, meta, supports
from app.store.vectors import to_bytes
from model.distances import Vectors

MODEL, PREVIOUS_MODEL, STORE_ID = "model", "previous_model", "store_id"
#: Prefix of the keys of facts about galleries whose change is held up.
_HELD = "held "


@dataclass(frozen=True)
class Progress:
    """How far a gallery has moved to a model: its shots, those with that model's vector, and those without an image.

    `problem` is what holds it up, if anything does.
    """

    gallery_id: int
    gallery: str
    model_digest: str
    shots: int
    done: int
    without_image: int
    problem: str | None = None


@dataclass(frozen=True)
class Waiting:
    """A shot that lacks a vector by the wanted model; `image` is None if it was not kept."""

    support_id: int
    image: bytes | None


class ModelStore:
    """Vectors of several models in one database. Methods may be called from any thread; errors as in `Store`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def alone(self) -> AbstractContextManager[bool]:
        """Try to lock the work of a model change, over all servers on this store, and yield whether it is ours."""
        return self._database.alone()

    def fact(self, key: str) -> str | None:
        """A fact about the whole store: MODEL (the wanted model's digest), PREVIOUS_MODEL or STORE_ID."""
        with self._database.read() as connection:
            return _fact(connection, key)

    def want(self, digest: str) -> None:
        """Set the model that all galleries must change to. The present one is recorded for a rollback."""
        with self._database.write() as connection:
            present = _fact(connection, MODEL)
            if present == digest:
                return
            if present is not None:
                _set_fact(connection, PREVIOUS_MODEL, present)
            _set_fact(connection, MODEL, digest)

    def digests(self) -> set[str]:
        """The models that galleries have now, the wanted one and the previous one."""
        with self._database.read() as connection:
            used = set(connection.execute(sa.select(galleries.c.model_digest).distinct()).scalars())
            facts = sa.select(meta.c.value).where(meta.c.key.in_([MODEL, PREVIOUS_MODEL]))
            return used | set(connection.execute(facts).scalars())

    def progress(self, digest: str) -> list[Progress]:
        """The progress of all galleries of other models towards this one, ordered by name."""
        others = sa.select(galleries).where(galleries.c.model_digest != digest).order_by(galleries.c.name)
        with self._database.read() as connection:
            rows = connection.execute(others).all()
            return [_progress(connection, row, digest) for row in rows]

    def waiting(self, gallery_id: int, digest: str, limit: int) -> list[Waiting]:
        """Up to `limit` shots of the gallery that lack a vector by the model."""
        query = (
            sa.select(supports.c.id, images.c.image, images.c.checksum)
            .select_from(supports)
            .join(classes, classes.c.id == supports.c.class_id)
            .outerjoin(images, images.c.support_id == supports.c.id)
            .where(classes.c.gallery_id == gallery_id, ~_has_vector(digest))
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query)
            return [Waiting(row.id, None if row.image is None else checked(row.image, row.checksum)) for row in rows]

    def add_vectors(self, digest: str, support_ids: Sequence[int], vectors: Vectors) -> None:
        """Store vectors by the model beside the present ones. Shots that were deleted meanwhile are left out."""
        with self._database.write() as connection:
            query = sa.select(supports.c.id).where(supports.c.id.in_(support_ids))
            alive = set(connection.execute(query).scalars())
            blobs = {id_: to_bytes(vector) for id_, vector in zip(support_ids, vectors, strict=True) if id_ in alive}
            rows = [
                {"support_id": id_, "model_digest": digest, "embedding": blob, "checksum": checksum(blob)}
                for id_, blob in blobs.items()
            ]
            if rows:
                there = embeddings.c.support_id.in_(alive) & (embeddings.c.model_digest == digest)
                connection.execute(sa.delete(embeddings).where(there))
                connection.execute(sa.insert(embeddings), rows)

    def switch(self, gallery_id: int, digest: str, dim: int) -> bool:
        """Switch the gallery to the model in one step. False, without changes, while a shot lacks its vector."""
        with self._database.write() as connection:
            lacking = (
                sa.select(supports.c.id)
                .join(classes, classes.c.id == supports.c.class_id)
                .where(classes.c.gallery_id == gallery_id, ~_has_vector(digest))
                .limit(1)
            )
            if connection.execute(lacking).first() is not None:
                return False
            connection.execute(sa.delete(meta).where(meta.c.key == _held(gallery_id)))
            values = {"model_digest": digest, "dim": dim}
            connection.execute(sa.update(galleries).where(galleries.c.id == gallery_id).values(values))
            record_settings(connection, gallery_id, datetime.now(UTC))
            return True

    def hold(self, gallery_id: int, digest: str, problem: str | None) -> None:
        """Record what holds up the gallery's change to the model; None if nothing does."""
        value = None if problem is None else f"{digest} {problem}"
        with self._database.write() as connection:
            if _fact(connection, _held(gallery_id)) == value:
                return
            connection.execute(sa.delete(meta).where(meta.c.key == _held(gallery_id)))
            if value is not None:
                connection.execute(sa.insert(meta).values(key=_held(gallery_id), value=value))

    def forget_others(self) -> None:
        """Delete vectors by models that are neither used, wanted nor previous, and facts about deleted galleries."""
        keep = self.digests()
        with self._database.write() as connection:
            connection.execute(sa.delete(embeddings).where(embeddings.c.model_digest.not_in(keep)))
            there = {_held(id_) for id_ in connection.execute(sa.select(galleries.c.id)).scalars()}
            held = connection.execute(sa.select(meta.c.key).where(meta.c.key.startswith(_HELD))).scalars()
            connection.execute(sa.delete(meta).where(meta.c.key.in_(set(held) - there)))

    def renew_identity(self, store_id: str) -> None:
        """Give the store a new identity, which invalidates what others derived from it (after a restore)."""
        with self._database.write() as connection:
            _set_fact(connection, STORE_ID, store_id)


def _held(gallery_id: int) -> str:
    return f"{_HELD}{gallery_id}"


def _fact(connection: sa.Connection, key: str) -> str | None:
    return connection.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()


def _set_fact(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(sa.delete(meta).where(meta.c.key == key))
    connection.execute(sa.insert(meta).values(key=key, value=value))


def _has_vector(digest: str) -> sa.ColumnElement[bool]:
    other = sa.exists().where(embeddings.c.support_id == supports.c.id, embeddings.c.model_digest == digest)
    return (supports.c.model_digest == digest) | other


def _progress(connection: sa.Connection, row: sa.Row[int, str, str], digest: str) -> Progress:
    kept = sa.exists().where(images.c.support_id == supports.c.id)
    done = _has_vector(digest)
    counts = (
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(sa.cast(done, sa.Integer)), 0),
            sa.func.coalesce(sa.func.sum(sa.cast(~done & ~kept, sa.Integer)), 0),
        )
        .select_from(supports)
        .join(classes, classes.c.id == supports.c.class_id)
        .where(classes.c.gallery_id == row.id)
    )
    of_digest, _, problem = (_fact(connection, _held(row.id)) or "").partition(" ")
    held = problem if of_digest == digest else None
    return Progress(row.id, row.name, row.model_digest, *connection.execute(counts).one(), problem=held)
