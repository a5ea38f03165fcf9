"""Deletes classes and galleries: at once, or in pieces if the disk is too full for that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from app.errors import StoreUnavailableError, WriteInDoubtError
from app.store.database import Database
from app.store.log import forget_classes, note_classes, record_class, record_gallery
from app.store.lookup import find_class, find_gallery
from app.store.schema import classes, galleries, images, supports

#: Limits of one piece on a full disk: shots, and bytes of their images. A single larger shot is a piece of its own.
_PIECE_SHOTS, _PIECE_BYTES = 500, 4 * 2**20


def remove_class(database: Database, gallery: str, label: str) -> None:
    """See `Store.remove_class`."""

    def remove() -> None:
        with database.write() as connection:
            gallery_id, class_id = find_class(connection, gallery, label)
            connection.execute(sa.delete(classes).where(classes.c.id == class_id))
            record_class(connection, gallery_id, class_id, datetime.now(UTC), deleted=True)
        database.scrub()

    def shots() -> tuple[int, sa.ColumnElement[bool]]:
        with database.read() as connection:
            gallery_id, class_id = find_class(connection, gallery, label)
        return gallery_id, supports.c.class_id == class_id

    _remove(database, remove, shots)


def remove_gallery(database: Database, gallery: str) -> None:
    """See `Store.remove_gallery`."""

    def remove() -> None:
        with database.write() as connection:
            gallery_id = find_gallery(connection, gallery).id
            connection.execute(sa.delete(galleries).where(galleries.c.id == gallery_id))
            record_gallery(connection, gallery_id, datetime.now(UTC), deleted=True)
        database.scrub()

    def shots() -> tuple[int, sa.ColumnElement[bool]]:
        with database.read() as connection:
            gallery_id = find_gallery(connection, gallery).id
        return gallery_id, supports.c.class_id.in_(sa.select(classes.c.id).where(classes.c.gallery_id == gallery_id))

    _remove(database, remove, shots)


def _remove(
    database: Database, remove: Callable[[], None], shots: Callable[[], tuple[int, sa.ColumnElement[bool]]]
) -> None:
    try:
        remove()
        return
    except StoreUnavailableError as error:
        if not database.is_full(error):
            raise
    begun = False
    with database.last_resort():
        try:
            piece = partial(_remove_piece, database, *shots())
            while piece():
                begun = True
                database.scrub()
            remove()
        except StoreUnavailableError as error:
            if not begun:
                raise
            raise WriteInDoubtError(
                f"The disk is full, and only a part of the images was deleted: {error.detail} Ask again."
            ) from error


def _remove_piece(database: Database, gallery_id: int, which: sa.ColumnElement[bool]) -> bool:
    """Delete some of these shots. Return whether there were any."""
    sizes = (
        sa.select(supports.c.id, supports.c.class_id, sa.func.coalesce(sa.func.length(images.c.image), 0).label("size"))
        .outerjoin(images, images.c.support_id == supports.c.id)
        .where(which)
        .order_by(supports.c.id)
        .limit(_PIECE_SHOTS)
    )
    with database.write() as connection:
        size, piece = 0, list[sa.Row[int, int, int]]()
        for row in connection.execute(sizes):
            size += row.size
            if piece and size > _PIECE_BYTES:
                break
            piece.append(row)
        changed = sorted({row.class_id for row in piece})
        connection.execute(sa.delete(supports).where(supports.c.id.in_([row.id for row in piece])))
        forget_classes(connection, gallery_id, changed)
        note_classes(connection, gallery_id, changed, datetime.now(UTC))
    return bool(piece)
