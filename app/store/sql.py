"""The store in SQLAlchemy Core, on SQLite or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from app.errors import (
    ImageNotFoundError,
    StartupError,
    StoreCorruptError,
    StoreUnavailableError,
)
from app.settings import without_password
from app.store import deletion, postgres, sqlite
from app.store.base import (
    Changes,
    ClassPage,
    ClassRecord,
    EnrollOutcome,
    GalleryContent,
    GalleryInfo,
    GalleryRecord,
    NewSupport,
    Once,
    OnConflict,
    Support,
)
from app.store.bulk_insert import chunks
from app.store.checksums import checked
from app.store.database import Database, Rest
from app.store.database import search as find_labels
from app.store.enrolment import check_items, enroll, select_classes
from app.store.inspection import count_damaged_rows
from app.store.keys import KeyStore
from app.store.log import (
    present_vector,
    read_changes,
    read_head,
    record_class,
    record_settings,
    with_calibration,
)
from app.store.lookup import find_class, find_gallery, refuse_taken
from app.store.migrations import migrate
from app.store.models import STORE_ID, ModelStore
from app.store.read_gallery import read_infos, read_whole
from app.store.receipts import find_receipt, keep_receipt
from app.store.schema import calibrations, classes, galleries, images, meta, supports
from app.store.shard_key import WHOLE, Part
from app.store.sqlite import BUSY_TIMEOUT_S
from app.store.vectors import from_bytes

#: The store's file in a data folder.
STORE_FILE = "oneshot.db"


class SqlStore:
    """A `Store` in one SQLite file or one PostgreSQL database (`database`). Several processes may have it open.

    `where` is the file's path or the database's URL. Opening creates the file and its folder if missing, and migrates
    an older schema. Raises StartupError, with a message of one line, when the store can't be used, and
    SchemaTooNewError when a newer version of the service wrote it; the store is then unchanged. A write waits up to
    `busy_timeout_s` seconds for that of another process. With `kept`, the log and galleries are read for a part of the
    classes only.
    """

    def __init__(self, where: Path | str, busy_timeout_s: float = BUSY_TIMEOUT_S, kept: Part = WHOLE) -> None:
        self._kept = kept
        try:
            self.database = _open(where, busy_timeout_s)
        except (OSError, StartupError, StoreUnavailableError, StoreCorruptError) as error:
            kind = type(error) if isinstance(error, StartupError) else StartupError
            raise kind(f"Can't open the store {without_password(where)}: {error}") from error

    @property
    def name(self) -> str:
        """The store's name in messages: its path, or its URL without the password."""
        return self.database.name

    def enroll(
        self, gallery: str, items: Sequence[NewSupport], on_conflict: OnConflict, keep_all: bool = False
    ) -> list[EnrollOutcome]:
        """See `Store.enroll`."""
        if not items:
            return []
        check_items(items)
        with self.database.write() as connection:
            outcomes = enroll(connection, gallery, items, on_conflict, keep_all)
        self._scrub_replaced(outcomes, on_conflict)
        return outcomes

    def enroll_once(
        self,
        once: Once,
        gallery: str,
        items: Sequence[NewSupport],
        on_conflict: OnConflict,
        answer: Callable[[list[EnrollOutcome]], str],
        *,
        keep_all: bool = False,
    ) -> str:
        """See `Store.enroll_once`."""
        check_items(items)
        with self.database.write() as connection:
            before = find_receipt(connection, once)  # under the write lock, so a concurrent repetition finds it
            if before is not None:
                return before
            outcomes = enroll(connection, gallery, items, on_conflict, keep_all)
            answered = answer(outcomes)
            keep_receipt(connection, once, answered)
        self._scrub_replaced(outcomes, on_conflict)
        return answered

    def answered(self, once: Once) -> str | None:
        """See `Store.answered`."""
        with self.database.read() as connection:
            if find_receipt(connection, once) is None:
                return None
        with self.database.write() as connection:  # a write, so that `written` covers what was done
            return find_receipt(connection, once)

    def _scrub_replaced(self, outcomes: Sequence[EnrollOutcome], on_conflict: OnConflict) -> None:
        if on_conflict is OnConflict.REPLACE and not all(outcome.created for outcome in outcomes):
            self.database.scrub_soon()

    def remove_class(self, gallery: str, label: str) -> None:
        """See `Store.remove_class`."""
        deletion.remove_class(self.database, gallery, label)

    def rename_class(self, gallery: str, label: str, new_label: str) -> ClassRecord:
        """See `Store.rename_class`."""
        with self.database.write() as connection:
            gallery_id, class_id = find_class(connection, gallery, label)
            if new_label != label:
                refuse_taken(connection, gallery_id, new_label)
                connection.execute(sa.update(classes).where(classes.c.id == class_id).values(label=new_label))
                record_class(connection, gallery_id, class_id, datetime.now(UTC))
            row = connection.execute(select_classes().where(classes.c.id == class_id)).one()
        self.database.scrub()  # the old label may be a person's name
        return ClassRecord(gallery, *row)

    def set_calibration(self, gallery: str, model_digest: str, calibration: str | None) -> None:
        """See `Store.set_calibration`."""
        with self.database.write() as connection:
            gallery_id = find_gallery(connection, gallery).id
            key = {"gallery_id": gallery_id, "model_digest": model_digest}
            connection.execute(sa.delete(calibrations).filter_by(**key))
            if calibration is not None:
                connection.execute(sa.insert(calibrations).values(content=calibration, **key))
            record_settings(connection, gallery_id, datetime.now(UTC))

    def remove_gallery(self, gallery: str) -> None:
        """See `Store.remove_gallery`."""
        deletion.remove_gallery(self.database, gallery)

    def keep_reserve(self, size: int) -> None:
        """Keep this many bytes of the disk free for deletions, if the store is a file."""
        self.database.keep_reserve(size)

    def list_galleries(self) -> list[GalleryRecord]:
        """See `Store.list_galleries`."""
        count = sa.select(sa.func.count()).where(classes.c.gallery_id == galleries.c.id).scalar_subquery()
        columns = (
            galleries.c.name,
            count,
            galleries.c.model_digest,
            galleries.c.dim,
            galleries.c.created_at,
            calibrations.c.content.is_not(None),
        )
        with self.database.read() as connection:
            rows = connection.execute(with_calibration(*columns).order_by(galleries.c.name))
            return [GalleryRecord(*row) for row in rows]

    def list_classes(self, gallery: str, limit: int, after: str | None = None, search: str | None = None) -> ClassPage:
        """See `Store.list_classes`."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        with self.database.read() as connection:
            query = select_classes().where(classes.c.gallery_id == find_gallery(connection, gallery).id)
            if after is not None:
                query = query.where(classes.c.label > after)
            if search is not None:
                rows = find_labels(connection, query, classes.c.label, search, limit + 1)
            else:
                rows = connection.execute(query.order_by(classes.c.label).limit(limit + 1)).all()
        items = [ClassRecord(gallery, *row) for row in rows[:limit]]
        return ClassPage(items, items[-1].label if len(rows) > limit else None)

    def get_class(self, gallery: str, label: str) -> ClassRecord:
        """See `Store.get_class`."""
        with self.database.read() as connection:
            _, class_id = find_class(connection, gallery, label)
            row = connection.execute(select_classes().where(classes.c.id == class_id)).one()
            return ClassRecord(gallery, *row)

    def list_supports(self, gallery: str, label: str) -> list[Support]:
        """See `Store.list_supports`."""
        columns = (supports.c.id, supports.c.media_type, supports.c.created_at, *present_vector())
        with self.database.read() as connection:
            dim = find_gallery(connection, gallery).dim
            _, class_id = find_class(connection, gallery, label)
            query = sa.select(*columns).join(classes, classes.c.id == supports.c.class_id)
            query = query.join(galleries, galleries.c.id == classes.c.gallery_id)
            query = query.where(supports.c.class_id == class_id).order_by(supports.c.id)
            return [
                Support(row.id, row.media_type, from_bytes([(row.embedding, row.checksum)], dim)[0], row.created_at)
                for row in connection.execute(query)
            ]

    def read_image(self, gallery: str, label: str, shot: int = 0) -> tuple[bytes, str]:
        """See `Store.read_image`."""
        with self.database.read() as connection:
            _, class_id = find_class(connection, gallery, label)
            query = (
                sa.select(images.c.image, supports.c.media_type, images.c.checksum)
                .select_from(supports)
                .outerjoin(images, images.c.support_id == supports.c.id)
                .where(supports.c.class_id == class_id)
                .order_by(supports.c.id)
                .offset(shot)
                .limit(1)
            )
            row = connection.execute(query).one_or_none() if shot >= 0 else None
            if row is None or row.image is None:
                raise ImageNotFoundError(gallery, label, shot)
            return checked(row.image, row.checksum), row.media_type

    def read_images(self, gallery: str, labels: Sequence[str]) -> dict[str, list[bytes | None]]:
        """Return the images of those classes that exist, oldest first; None for an image that was not kept."""
        found: dict[str, list[bytes | None]] = {}
        query = (
            sa.select(classes.c.label, images.c.image, images.c.checksum)
            .join(galleries, galleries.c.id == classes.c.gallery_id)
            .join(supports, supports.c.class_id == classes.c.id)
            .outerjoin(images, images.c.support_id == supports.c.id)
            .where(galleries.c.name == gallery)
            .order_by(supports.c.id)
        )
        with self.database.read() as connection:
            for chunk in chunks(labels):
                for label, image, checksum in connection.execute(query.where(classes.c.label.in_(chunk))):
                    found.setdefault(label, []).append(None if image is None else checked(image, checksum))
        return found

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        with self.database.write() as connection:
            connection.execute(sa.delete(meta).where(meta.c.key == "checked_at"))
            connection.execute(sa.insert(meta).values(key="checked_at", value=datetime.now(UTC).isoformat()))
        self.database.fill_reserve()

    def version(self) -> int:
        """See `Store.version`."""
        return self.database.version()

    @property
    def remote(self) -> bool:
        """See `Store.remote`."""
        return self.database.remote

    def written(self) -> int:
        """See `Store.written`."""
        return self.database.written()

    @property
    def damage(self) -> str | None:
        """See `Store.damage`."""
        return self.database.damage.found

    def age(self) -> float:
        """See `Store.age`."""
        return self.database.age()

    def changes_since(self, seq: int, gallery_id: int | None = None, limit: int = -1) -> Changes:
        """See `Store.changes_since`."""
        with self.database.read() as connection:
            return read_changes(connection, seq, gallery_id, limit, self._kept)

    @property
    def keys(self) -> KeyStore:
        """The API keys."""
        return KeyStore(self.database)

    @property
    def models(self) -> ModelStore:
        """The part of the store that model changes use."""
        return ModelStore(self.database)

    def store_id(self) -> str:
        """See `Store.store_id`."""
        return self.models.fact(STORE_ID) or ""

    def head(self) -> int:
        """See `Store.head`."""
        with self.database.read() as connection:
            return read_head(connection)

    def gallery_infos(self) -> list[tuple[GalleryInfo, int]]:
        """See `Store.gallery_infos`."""
        with self.database.read() as connection:
            return read_infos(connection, self._kept)

    def read_gallery(self, gallery_id: int, digest: str | None = None) -> GalleryContent:
        """See `Store.read_gallery`."""
        with self.database.read() as connection:
            return read_whole(connection, gallery_id, digest, self._kept)

    def inspect(self, rest: Rest) -> bool:
        """Check the whole store, and add missing checksums. Return False if `rest` ended it early.

        If everything is intact, damage found earlier is forgotten. Raises StoreCorruptError.
        """
        began = time.time()
        ended = not self.database.check_structure(rest)
        damaged = None if ended else count_damaged_rows(self.database, rest)
        if damaged is None:
            return False
        if damaged:
            with self.database.damage.noted():
                raise StoreCorruptError(f"Stored images and vectors are damaged: {damaged} have another checksum.")
        self.database.damage.forget(began)
        return True

    def end_inspection(self) -> None:
        """Interrupt an `inspect` in another thread. Its `rest` must return False from now on."""
        self.database.interrupt_check()

    def close(self) -> None:
        """See `Store.close`."""
        self.database.close()


def open_store(home: Path, url: str | None, kept: Part = WHOLE) -> SqlStore:
    """Open the store of a service on this data folder: at the URL, or else in the folder."""
    return SqlStore(url or home / STORE_FILE, kept=kept)


def _open(where: Path | str, busy_timeout_s: float) -> Database:
    database: Database
    if isinstance(where, str):
        database = postgres.Database(where, without_password(where), busy_timeout_s)
    else:
        where.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite.Database(where, busy_timeout_s)
    try:
        database.check()
        with database.write() as connection:
            migrate(connection)
        database.start()
    except BaseException:
        database.close()
        raise
    return database
