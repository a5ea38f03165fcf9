"""Finds galleries and classes by name."""

from __future__ import annotations

import sqlalchemy as sa

from app.errors import ClassExistsError, ClassNotFoundError, GalleryNotFoundError
from app.store.schema import classes, galleries


def find_gallery(connection: sa.Connection, name: str) -> sa.Row[int, int]:
    """Return the gallery's `id` and `dim`. Raises GalleryNotFoundError."""
    query = sa.select(galleries.c.id, galleries.c.dim).where(galleries.c.name == name)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise GalleryNotFoundError(name)
    return row


def find_class(connection: sa.Connection, gallery: str, label: str) -> tuple[int, int]:
    """Return the ids of the gallery and of the class. Raises GalleryNotFoundError, ClassNotFoundError."""
    gallery_id = find_gallery(connection, gallery).id
    query = sa.select(classes.c.id).where(classes.c.gallery_id == gallery_id, classes.c.label == label)
    class_id = connection.execute(query).scalar_one_or_none()
    if class_id is None:
        raise ClassNotFoundError(gallery, label)
    return gallery_id, class_id


def refuse_taken(connection: sa.Connection, gallery_id: int, label: str) -> None:
    """Raise ClassExistsError when the gallery has a class of this label."""
    query = sa.select(classes.c.id).where(classes.c.gallery_id == gallery_id, classes.c.label == label)
    if connection.execute(query).first() is not None:
        raise ClassExistsError([label])
