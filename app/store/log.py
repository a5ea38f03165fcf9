"""The change log: written in the transaction of each change, read by whoever keeps a view.

Entries about what was deleted (tombstones) would pile up: only the latest are kept. A reader that has not come as far
as the last one that was dropped has to begin anew.
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

#: So many deletions may a reader of the log have missed and still catch up.
KEPT_TOMBSTONES = 10_000
_PRUNED = "pruned"


def record_gallery(connection: sa.Connection, gallery_id: int, at: datetime, deleted: bool = False) -> None:
    """Note that the gallery was made or dropped; this takes the place of all entries about it."""
    connection.execute(sa.delete(changes).where(changes.c.gallery_id == gallery_id))
    seq = _note_gallery(connection, gallery_id, at)
    if deleted:
        _bury(connection, seq)


def record_settings(connection: sa.Connection, gallery_id: int, at: datetime) -> None:
    """Note that something about the gallery as a whole changed; the entries about its classes stay."""
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
    """Note that the class was changed or deleted; the entry takes the place of the class's earlier one."""
    forget_classes(connection, gallery_id, [class_id])
    [seq] = note_classes(connection, gallery_id, [class_id], at)
    if deleted:
        _bury(connection, seq)


def _bury(connection: sa.Connection, seq: int) -> None:
    """Note that the entry is about something deleted, and drop the oldest of these when there are too many."""
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
    """Return the number of the last entry that was dropped as too old, 0 when there was none."""
    found = connection.execute(sa.select(meta.c.value).where(meta.c.key == _PRUNED)).scalar_one_or_none()
    return int(found or 0)


def forget_classes(connection: sa.Connection, gallery_id: int, class_ids: Iterable[int]) -> None:
    """Drop the entries about the classes: later ones take their place."""
    for chunk in chunks(class_ids):
        superseded = (changes.c.gallery_id == gallery_id) & changes.c.class_id.in_(chunk)
        connection.execute(sa.delete(changes).where(superseded))


def note_classes(connection: sa.Connection, gallery_id: int, class_ids: Sequence[int], at: datetime) -> list[int]:
    """Note that the classes, of which the log has nothing, were made or changed; returns the entries' numbers."""
    ids = take_ids(connection, changes, len(class_ids))
    insert_many(connection, changes, seq=ids, gallery_id=gallery_id, class_id=list(class_ids), at=at)
    if ids:
        note_number(connection, ids[-1])
    return ids


def present_vector() -> Sequence[sa.ColumnElement[Any]]:
    """The vector and checksum of a row of supports by its gallery's present model; for a query over both tables."""
    return vector_of(galleries.c.model_digest)


def vector_of(digest: sa.ColumnElement[str] | str) -> Sequence[sa.ColumnElement[Any]]:
    """The vector of a row of supports by the model of that digest, and its checksum, NULL where there is none."""
    return [_by_model(name, digest).label(name) for name in ("embedding", "checksum")]


def _by_model(name: str, digest: sa.ColumnElement[str] | str) -> sa.ColumnElement[Any]:
    other = (
        sa.select(embeddings.c[name])
        .where(embeddings.c.support_id == supports.c.id, embeddings.c.model_digest == digest)
        .scalar_subquery()
    )
    return sa.case((supports.c.model_digest == digest, supports.c[name]), else_=other)


def with_calibration(*columns: Any) -> sa.Select[*tuple[Any, ...]]:
    """A query of galleries, with the calibration of each for its present model, NULL where it has none of its own."""
    present = (calibrations.c.gallery_id == galleries.c.id) & (calibrations.c.model_digest == galleries.c.model_digest)
    return sa.select(*columns).select_from(galleries).outerjoin(calibrations, present)


def read_head(connection: sa.Connection) -> int:
    """Return the latest entry's number."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(changes.c.seq), 0))).scalar_one())


def read_changes(
    connection: sa.Connection, seq: int, gallery_id: int | None = None, limit: int = -1, kept: Part = WHOLE
) -> Changes:
    """Return the changes after `seq`, as the connection's snapshot has them: at most `limit` entries of the log.

    Only those of one gallery, if it is given; of classes, only those that are kept.
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
        seq = max(seq, read_head(connection))  # what lies between concerns others
    infos = _read_infos(connection, found.keys())
    found_changes = [gathered.finish(id_, infos.get(id_)) for id_, gathered in found.items()]
    return Changes(seq, found_changes, read_pruned(connection))


@dataclass
class _Gathered:
    """One gallery's changes while the rows come in."""

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
