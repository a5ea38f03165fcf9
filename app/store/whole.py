"""Reading a whole gallery at once, with little work for each of very many rows."""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa

from app.errors import StoreCorruptError
from app.store.base import GalleryContent, GalleryInfo
from app.store.log import present_vector
from app.store.schema import calibrations, changes, classes, galleries, supports

_ROWS = 2_000


def read_head(connection: sa.Connection) -> int:
    """Return the latest entry's number."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(changes.c.seq), 0))).scalar_one())


def read_infos(connection: sa.Connection) -> list[tuple[GalleryInfo, int]]:
    """Return all galleries and their numbers of shots."""
    count = (
        sa.select(sa.func.count())
        .select_from(supports)
        .join(classes, classes.c.id == supports.c.class_id)
        .where(classes.c.gallery_id == galleries.c.id)
        .scalar_subquery()
    )
    columns = (galleries.c.id, galleries.c.name, galleries.c.model_digest, galleries.c.dim, calibrations.c.content)
    query = sa.select(*columns, count).outerjoin(calibrations, calibrations.c.gallery_id == galleries.c.id)
    return [(GalleryInfo(*row[:-1]), row[-1]) for row in connection.execute(query)]


def read_whole(connection: sa.Connection, gallery_id: int) -> GalleryContent:
    """Return the gallery as the connection's snapshot has it."""
    dim = connection.execute(sa.select(galleries.c.dim).where(galleries.c.id == gallery_id)).scalar_one_or_none() or 1
    seq = read_head(connection)
    ids = sa.select(classes.c.id, classes.c.label).where(classes.c.gallery_id == gallery_id).order_by(classes.c.id)
    found = connection.execute(ids).all()
    class_ids = np.array([row[0] for row in found], dtype=np.int64)
    shots = (
        sa.select(supports.c.class_id, present_vector())
        .join(classes, classes.c.id == supports.c.class_id)
        .join(galleries, galleries.c.id == classes.c.gallery_id)
        .where(classes.c.gallery_id == gallery_id)
        .order_by(supports.c.class_id, supports.c.id)
    )
    parts: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = [np.empty((0, dim), np.float32)]
    owners: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = [np.empty(0, np.int64)]
    rows = connection.execution_options(yield_per=_ROWS).execute(shots)
    for part in rows.partitions(_ROWS):
        blob = b"".join([row[1] for row in part])
        if len(blob) != 4 * dim * len(part):
            raise StoreCorruptError(f"Stored vectors of {dim} dimensions have {len(blob)} bytes for {len(part)}.")
        parts.append(np.frombuffer(blob, dtype="<f4").reshape(-1, dim))
        owners.append(np.array([row[0] for row in part], dtype=np.int64))
    places = np.searchsorted(class_ids, np.concatenate(owners)).astype(np.int32)
    return GalleryContent(seq, np.concatenate(parts), places, class_ids, [row[1] for row in found])
