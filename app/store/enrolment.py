"""The transaction of an enrolment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa

from app.errors import ClassExistsError, ModelMismatchError
from app.store.base import ClassRecord, EnrollOutcome, NewSupport, OnConflict
from app.store.bulk_insert import chunks, insert_many
from app.store.checksums import checksum
from app.store.database import take_ids
from app.store.log import forget_classes, note_classes, record_gallery
from app.store.schema import classes, galleries, images, supports
from app.store.vectors import to_bytes


def enroll(
    connection: sa.Connection,
    gallery: str,
    items: Sequence[NewSupport],
    on_conflict: OnConflict,
    keep_all: bool = False,
) -> list[EnrollOutcome]:
    """Write the items as `Store.enroll` does, in the connection's transaction. They must be checked, and not empty."""
    now = datetime.now(UTC)
    gallery_id = _pin_gallery(connection, gallery, items[0], now)
    known = _class_ids(connection, gallery_id, [item.label for item in items])
    if on_conflict is OnConflict.FAIL:
        _refuse_conflicts({item.label: item for item in items}.values() if keep_all else items, known)
    if on_conflict is OnConflict.REPLACE:
        _delete_supports(connection, known.values())
    new = _insert_classes(connection, gallery_id, [item.label for item in items if item.label not in known], now)
    _touch_classes(connection, known.values(), now)
    last_only = on_conflict is OnConflict.REPLACE and not keep_all
    kept = {item.label: item for item in items}.values() if last_only else items
    _insert_supports(connection, known | new, list(kept), now)
    forget_classes(connection, gallery_id, known.values())
    note_classes(connection, gallery_id, [*known.values(), *new.values()], now)
    shots = Counter(item.label for item in kept)
    fresh = {label: ClassRecord(gallery, label, shots[label], now, now) for label in new}
    return _outcomes(items, known, fresh | _class_records(connection, gallery, known))


def check_items(items: Sequence[NewSupport]) -> None:
    """Raise ValueError unless all items come from one model and have finite embeddings of one length."""
    if len({item.model_digest for item in items}) != 1:
        raise ValueError("the items of one enrolment must come from one model")
    if len({item.embedding.shape for item in items}) != 1 or items[0].embedding.ndim != 1:
        raise ValueError("the embeddings of one enrolment must all have the same shape (D,)")
    if not np.isfinite(np.stack([item.embedding for item in items])).all():
        raise ValueError("an embedding has a value that is not finite")


def _pin_gallery(connection: sa.Connection, name: str, item: NewSupport, now: datetime) -> int:
    """Return the id of the gallery, created if missing. Checks that it has the item's model and dimension."""
    dim = item.embedding.shape[0]
    row = connection.execute(sa.select(galleries).where(galleries.c.name == name)).one_or_none()
    if row is None:
        values = {"name": name, "model_digest": item.model_digest, "dim": dim, "created_at": now}
        gallery_id = int(connection.execute(sa.insert(galleries).values(values).returning(galleries.c.id)).scalar_one())
        record_gallery(connection, gallery_id, now)
        return gallery_id
    if row.model_digest != item.model_digest:
        raise ModelMismatchError(name, row.model_digest, item.model_digest)
    if row.dim != dim:
        raise ValueError(f"gallery {name!r} has vectors of {row.dim} dimensions, not {dim}")
    return int(row.id)


def _class_ids(connection: sa.Connection, gallery_id: int, labels: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in chunks(dict.fromkeys(labels)):
        query = sa.select(classes.c.label, classes.c.id).where(
            classes.c.gallery_id == gallery_id, classes.c.label.in_(chunk)
        )
        found.update((label, id_) for label, id_ in connection.execute(query))
    return found


def _refuse_conflicts(items: Iterable[NewSupport], known: dict[str, int]) -> None:
    seen = set(known)
    conflicts: dict[str, None] = {}
    for item in items:
        if item.label in seen:
            conflicts[item.label] = None
        seen.add(item.label)
    if conflicts:
        raise ClassExistsError(list(conflicts))


def _delete_supports(connection: sa.Connection, class_ids: Iterable[int]) -> None:
    for chunk in chunks(class_ids):
        connection.execute(sa.delete(supports).where(supports.c.class_id.in_(chunk)))


def _insert_classes(connection: sa.Connection, gallery_id: int, labels: Iterable[str], now: datetime) -> dict[str, int]:
    wanted = list(dict.fromkeys(labels))
    ids = take_ids(connection, classes, len(wanted))
    insert_many(connection, classes, id=ids, gallery_id=gallery_id, label=wanted, created_at=now, updated_at=now)
    return dict(zip(wanted, ids, strict=True))


def _touch_classes(connection: sa.Connection, class_ids: Iterable[int], now: datetime) -> None:
    for chunk in chunks(class_ids):
        connection.execute(sa.update(classes).where(classes.c.id.in_(chunk)).values(updated_at=now))


def _insert_supports(
    connection: sa.Connection, class_ids: dict[str, int], items: Sequence[NewSupport], now: datetime
) -> None:
    ids = take_ids(connection, supports, len(items))
    vectors = [to_bytes(item.embedding) for item in items]
    insert_many(
        connection,
        supports,
        id=ids,
        class_id=[class_ids[item.label] for item in items],
        media_type=[item.media_type for item in items],
        embedding=vectors,
        checksum=[checksum(vector) for vector in vectors],
        model_digest=items[0].model_digest,
        created_at=now,
    )
    kept = [(id_, item.image) for id_, item in zip(ids, items, strict=True) if item.image is not None]
    insert_many(
        connection,
        images,
        support_id=[id_ for id_, _ in kept],
        image=[image for _, image in kept],
        checksum=[checksum(image) for _, image in kept],
    )


def _class_records(connection: sa.Connection, gallery: str, ids: dict[str, int]) -> dict[str, ClassRecord]:
    found: dict[str, ClassRecord] = {}
    for chunk in chunks(ids.values()):
        query = select_classes().where(classes.c.id.in_(chunk))
        found.update((row.label, ClassRecord(gallery, *row)) for row in connection.execute(query))
    return found


def select_classes() -> sa.Select[str, int, datetime, datetime]:
    """Return the query for label, number of shots, created_at, updated_at: a ClassRecord without its gallery."""
    shots = sa.select(sa.func.count()).where(supports.c.class_id == classes.c.id).scalar_subquery()
    return sa.select(classes.c.label, shots, classes.c.created_at, classes.c.updated_at)


def _outcomes(
    items: Sequence[NewSupport], known: dict[str, int], records: dict[str, ClassRecord]
) -> list[EnrollOutcome]:
    seen = set(known)
    outcomes: list[EnrollOutcome] = []
    for item in items:
        outcomes.append(EnrollOutcome(records[item.label], created=item.label not in seen))
        seen.add(item.label)
    return outcomes
