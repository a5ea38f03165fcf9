"""Reads a whole gallery at once, with little work per row."""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa

from app.errors import StoreCorruptError
from app.store.base import GalleryContent, GalleryInfo
from app.store.checksums import check_vectors
from app.store.log import present_vector, read_head, vector_of, with_calibration
from app.store.schema import calibrations, classes, galleries, supports
from app.store.shard_key import WHOLE, Part

_ROWS = 2_000


def read_infos(connection: sa.Connection, kept: Part = WHOLE) -> list[tuple[GalleryInfo, int]]:
    """Return all galleries, and the number of shots of each in the classes of the part `kept`."""
    count = (
        sa.select(sa.func.count())
        .select_from(supports)
        .join(classes, classes.c.id == supports.c.class_id)
        .where(classes.c.gallery_id == galleries.c.id, kept.has(classes.c.id))
        .scalar_subquery()
    )
    columns = (galleries.c.id, galleries.c.name, galleries.c.model_digest, galleries.c.dim, calibrations.c.content)
    query = with_calibration(*columns, count)
    return [(GalleryInfo(*row[:-1]), row[-1]) for row in connection.execute(query)]


def read_whole(
    connection: sa.Connection, gallery_id: int, digest: str | None = None, kept: Part = WHOLE
) -> GalleryContent:
    """Return the gallery in the connection's snapshot, with the vectors of its present model or of model `digest`.

    Leaves out shots without a vector of that model, and classes outside the part `kept`.
    """
    vector, checksum = present_vector() if digest is None else vector_of(digest)
    seq = read_head(connection)
    wanted = (classes.c.gallery_id == gallery_id) & kept.has(classes.c.id)
    found = connection.execute(sa.select(classes.c.id, classes.c.label).where(wanted).order_by(classes.c.id)).all()
    class_ids = np.array([row[0] for row in found], dtype=np.int64)
    shots = (
        sa.select(supports.c.class_id, vector, checksum)
        .join(classes, classes.c.id == supports.c.class_id)
        .join(galleries, galleries.c.id == classes.c.gallery_id)
        .where(wanted, vector.is_not(None))
        .order_by(supports.c.class_id, supports.c.id)
    )
    parts: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    owners: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = [np.empty(0, np.int64)]
    with connection.execution_options(yield_per=_ROWS).execute(shots) as rows:
        for part in rows.partitions(_ROWS):
            blob = b"".join([row[1] for row in part])
            if len(blob) % (4 * len(part)) or (parts and len(blob) != 4 * parts[0].shape[1] * len(part)):
                raise StoreCorruptError(f"{len(part)} stored vectors have {len(blob)} bytes together.")
            check_vectors((row[1], row[2]) for row in part)
            parts.append(np.frombuffer(blob, dtype="<f4").reshape(len(part), -1))
            owners.append(np.array([row[0] for row in part], dtype=np.int64))
    places = np.searchsorted(class_ids, np.concatenate(owners)).astype(np.int32)
    vectors = np.concatenate(parts) if parts else np.empty((0, 1), np.float32)
    return GalleryContent(seq, vectors, places, class_ids, [row[1] for row in found])
