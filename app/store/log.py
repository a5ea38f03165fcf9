"""The change log. It is written in the transaction of each change, and read by processes that keep views.

Entries about deletions (tombstones) would accumulate, so only the latest are kept. A reader that had not reached the
last dropped one must start from the beginning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from app.store.base import Changes, GalleryChanges, GalleryInfo
from app.store.bulk_insert import CHUNK, chunks, insert_many
from app.store.database import note_number, take_ids
from app.store.schema import calibrations, changes, classes, embeddings, galleries, meta, supports, tombstones
from app.store.shard_key import WHOLE, Part
from app.store.vectors import from_bytes

#: Most deletions that a reader of the log can be behind and still catch up.
KEPT_TOMBSTONES = 10_000
_PRUNED = "pruned"


def record_gallery(connection: sa.Connection, gallery_id: int, at: datetime, deleted: bool = False) -> None:
    """Record that the gallery was created or deleted. The entry replaces all earlier ones about it."""
    connection.execute(sa.delete(changes).where(changes.c.gallery_id == gallery_id))
    seq = _note_gallery(connection, gallery_id, at)
    if deleted:
        _bury(connection, seq)


def record_settings(connection: sa.Connection, gallery_id: int, at: datetime) -> None:
    """Record that a setting of the gallery changed. The entries about its classes stay."""
    about_gallery = (changes.c.gallery_id == gallery_id) & changes.c.class_id.is_(None)
    connection.execute(sa.delete(changes).where(about_gallery))
    _note_gallery(connection, gallery_id, at)


def _note_gallery(connection: sa.Connection, gallery_id: int, at: datetime) -> int:
    insert = sa.insert(changes).values(gallery_id=gallery_id, class_id=None, at=at).returning(changes.c.seq)
    seq = int(connection.execute(insert).scalar_one())
    note_number(connection, seq)
    return seq


def record_class(
    connection: sa.Connection, gallery_id: int, class_id: int, at: datetime, deleted: bool = False
) -> None:
    """Record that the class was changed or deleted. The entry replaces the class's earlier one."""
    forget_classes(connection, gallery_id, [class_id])
    [seq] = note_classes(connection, gallery_id, [class_id], at)
    if deleted:
        _bury(connection, seq)


def _bury(connection: sa.Connection, seq: int) -> None:
    """Mark the entry as a tombstone, and drop the oldest tombstones beyond the limit."""
    connection.execute(sa.insert(tombstones).values(seq=seq))
    latest = sa.select(tombstones.c.seq).order_by(tombstones.c.seq.desc()).offset(KEPT_TOMBSTONES).limit(1)
    cut = connection.execute(latest).scalar_one_or_none()
    if cut is not None:
        old = sa.select(tombstones.c.seq).where(tombstones.c.seq <= cut)
        connection.execute(sa.delete(changes).where(changes.c.seq.in_(old)))
        connection.execute(sa.delete(tombstones).where(tombstones.c.seq <= cut))
        connection.execute(sa.delete(meta).where(meta.c.key == _PRUNED))
        connection.execute(sa.insert(meta).values(key=_PRUNED, value=str(cut)))


def read_pruned(connection: sa.Connection) -> int:
    """Return the number of the latest dropped entry, 0 if there is none."""
    found = connection.execute(sa.select(meta.c.value).where(meta.c.key == _PRUNED)).scalar_one_or_none()
    return int(found or 0)


def forget_classes(connection: sa.Connection, gallery_id: int, class_ids: Iterable[int]) -> None:
    """Delete the entries about the classes, because later ones replace them."""
    for chunk in chunks(class_ids):
        superseded = (changes.c.gallery_id == gallery_id) & changes.c.class_id.in_(chunk)
        connection.execute(sa.delete(changes).where(superseded))


def note_classes(connection: sa.Connection, gallery_id: int, class_ids: Sequence[int], at: datetime) -> list[int]:
    """Record that the classes, which must have no entry, were created or changed. Return the entries' numbers."""
    ids = take_ids(connection, changes, len(class_ids))
    insert_many(connection, changes, seq=ids, gallery_id=gallery_id, class_id=list(class_ids), at=at)
    if ids:
        note_number(connection, ids[-1])
    return ids


def present_vector() -> Sequence[sa.ColumnElement[Any]]:
    """The vector and checksum of a shot by its gallery's present model. For a query over supports and galleries."""
    return vector_of(galleries.c.model_digest)


def vector_of(digest: sa.ColumnElement[str] | str) -> Sequence[sa.ColumnElement[Any]]:
    """The vector and checksum of a shot by the model `digest`, NULL if there is none. For a query over supports."""
    return [_by_model(name, digest).label(name) for name in ("embedding", "checksum")]


def _by_model(name: str, digest: sa.ColumnElement[str] | str) -> sa.ColumnElement[Any]:
    other = (
        sa.select(embeddings.c[name])
        .where(embeddings.c.support_id == supports.c.id, embeddings.c.model_digest == digest)
        .scalar_subquery()
    )
    return sa.case((supports.c.model_digest == digest, supports.c[name]), else_=other)


def with_calibration(*columns: Any) -> sa.Select[*tuple[Any, ...]]:
    """A query of galleries, each with its own calibration for its present model, NULL if it has none."""
    present = (calibrations.c.gallery_id == galleries.c.id) & (calibrations.c.model_digest == galleries.c.model_digest)
    return sa.select(*columns).select_from(galleries).outerjoin(calibrations, present)


def read_head(connection: sa.Connection) -> int:
    """Return the number of the latest entry."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(changes.c.seq), 0))).scalar_one())


def read_changes(
    connection: sa.Connection, seq: int, gallery_id: int | None = None, limit: int = -1, kept: Part = WHOLE
) -> Changes:
    """Return the changes after `seq` in the connection's snapshot: at most `limit` entries of the log.

    With `gallery_id`, only those of that gallery; of classes, only those in the part `kept`.
    """
    log = sa.select(changes).where(changes.c.seq > seq).order_by(changes.c.seq)
    log = log.where(changes.c.class_id.is_(None) | kept.has(changes.c.class_id))
    if gallery_id is not None:
        log = log.where(changes.c.gallery_id == gallery_id)
    part = (log if limit < 0 else log.limit(limit)).subquery()
    entries = (
        sa.select(part.c.seq, part.c.gallery_id, part.c.class_id, classes.c.label, supports.c.id, *present_vector())
        .select_from(part)
        .outerjoin(galleries, galleries.c.id == part.c.gallery_id)
        .outerjoin(classes, classes.c.id == part.c.class_id)
        .outerjoin(supports, supports.c.class_id == classes.c.id)
        .order_by(part.c.seq, supports.c.id)
    )
    found: defaultdict[int, _Gathered] = defaultdict(_Gathered)
    read: set[int] = set()
    for entry_seq, of_gallery, class_id, label, support_id, embedding, checksum in connection.execute(entries):
        seq = entry_seq
        read.add(seq)
        gathered = found[of_gallery]
        if class_id is None:
            continue
        gathered.classes[class_id] = label
        if support_id is not None:
            gathered.support_ids.append(support_id)
            gathered.class_ids.append(class_id)
            gathered.embeddings.append((embedding, checksum))
    if kept != WHOLE and not 0 <= limit <= len(read):
        seq = max(seq, read_head(connection))  # the entries in between belong to other parts
    infos = _read_infos(connection, found.keys())
    found_changes = [gathered.finish(id_, infos.get(id_)) for id_, gathered in found.items()]
    return Changes(seq, found_changes, read_pruned(connection))


@dataclass
class _Gathered:
    """One gallery's changes, collected while the rows are read."""

    classes: dict[int, str | None] = field(default_factory=dict)
    support_ids: list[int] = field(default_factory=list)
    class_ids: list[int] = field(default_factory=list)
    embeddings: list[tuple[bytes, int | None]] = field(default_factory=list)

    def finish(self, gallery_id: int, info: GalleryInfo | None) -> GalleryChanges:
        return GalleryChanges(
            gallery_id,
            info,
            self.classes,
            np.array(self.support_ids, dtype=np.int64),
            np.array(self.class_ids, dtype=np.int64),
            from_bytes(self.embeddings, info.dim if info else 1),
        )


def _read_infos(connection: sa.Connection, gallery_ids: Collection[int]) -> dict[int, GalleryInfo]:
    columns = (galleries.c.id, galleries.c.name, galleries.c.model_digest, galleries.c.dim, calibrations.c.content)
    query = with_calibration(*columns)
    if len(gallery_ids) <= CHUNK:
        query = query.where(galleries.c.id.in_(gallery_ids))
    return {row.id: GalleryInfo(*row) for row in connection.execute(query)}
