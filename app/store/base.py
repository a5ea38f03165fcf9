"""Records and interface of the durable store.

The store is the source of truth; every index in memory is a view of it. A call that has returned is durable. A write
also goes into an ordered change log, in the same transaction, and views follow that log (`Store.changes_since`). The
log has at most one entry per class, the latest. An entry says *which* class changed, not how: reading it yields the
class in its present state. So the log stays as small as the gallery, applying it twice does no harm, replaying it
from 0 rebuilds a view, and it keeps no deleted label. Of the entries about deletions it keeps the latest 10,000
(`Changes.pruned`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.distances import Vectors

Ids = npt.NDArray[np.int64]


class OnConflict(StrEnum):
    """What enrolling does with a label that the gallery already has."""

    REPLACE = "replace"  # the new shot replaces all old ones
    FAIL = "fail"  # nothing of the whole batch is written
    ADD = "add"  # the class keeps its shots and gains one


@dataclass(frozen=True)
class NewSupport:
    """One image to enrol under `label`; `image` is None where images are not kept.

    `embedding` is in index form, shape (D,), finite float32, made by the model of `model_digest`.
    """

    label: str
    image: bytes | None
    media_type: str
    embedding: Vectors
    model_digest: str


@dataclass(frozen=True)
class Support:
    """One stored shot of a class, without its image (see `Store.read_image`)."""

    id: int
    media_type: str
    embedding: Vectors
    created_at: datetime


@dataclass(frozen=True)
class ClassRecord:
    """One class: its number of shots, when it was created and when its shots last changed (UTC)."""

    gallery: str
    label: str
    supports: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class EnrollOutcome:
    """The result of enrolling one item: its class after the whole batch, and whether this item created the class."""

    class_record: ClassRecord
    created: bool


@dataclass(frozen=True)
class Once:
    """A request to be done only once, however often it is sent: digests of its key and of its whole content."""

    key: str
    request: str


@dataclass(frozen=True)
class ClassPage:
    """One page of classes, ordered by label (by code point). `next_after` asks for the next page, None at the end."""

    items: list[ClassRecord]
    next_after: str | None


@dataclass(frozen=True)
class GalleryRecord:
    """One gallery: its number of classes, and the model (digest, dimension) of all its vectors.

    `calibrated`: whether it has its own calibration.
    """

    name: str
    classes: int
    model_digest: str
    dim: int
    created_at: datetime
    calibrated: bool


@dataclass(frozen=True)
class GalleryInfo:
    """A gallery's data for a view. An `id` is never reused, even if the name is.

    `calibration` is the JSON of the gallery's own calibration, None if it uses that of its model.
    """

    id: int
    name: str
    model_digest: str
    dim: int
    calibration: str | None = None


@dataclass(frozen=True)
class GalleryChanges:
    """The changes in one gallery, as its present state.

    `gallery` is None when the gallery was deleted. `classes` maps the id of each changed class to its label, None when
    the class was deleted, in the order of the log. `vectors`, shape (n, D), are all present shots of these classes.
    `support_ids` and `class_ids`, shape (n,), are the shot and the class of each row.
    """

    gallery_id: int
    gallery: GalleryInfo | None
    classes: Mapping[int, str | None]
    support_ids: Ids
    class_ids: Ids
    vectors: Vectors

    def without_vectors(self) -> GalleryChanges:
        """Return the same changes of classes, without their shots."""
        none: Ids = np.empty(0, dtype=np.int64)
        return replace(self, support_ids=none, class_ids=none, vectors=self.vectors[:0])


@dataclass(frozen=True)
class Changes:
    """The changes after a point of the log; `seq` is the point that they lead to.

    Old entries about deletions are dropped from the log. A reader that had reached a point before `pruned`, other than
    0, may have missed one.
    """

    seq: int
    galleries: list[GalleryChanges]
    pruned: int = 0


@dataclass(frozen=True)
class GalleryContent:
    """A whole gallery at the point `seq` of the log: shots ordered by class and age, and the classes' ids and labels.

    `vectors` has shape (n, D). `owners`, shape (n,), is the index in `class_ids` (ascending) of each shot's class.
    """

    seq: int
    vectors: Vectors
    owners: npt.NDArray[np.int32]
    class_ids: Ids
    labels: Sequence[str]


class Store(Protocol):
    """Durable galleries of labelled images. All methods may be called from any thread.

    Any method raises StoreUnavailableError when the store can't be reached or written now (locked too long, disk full,
    closed) and StoreCorruptError when it is damaged. A write that raises has changed nothing. Labels and gallery names
    are compared exactly, by code point.
    """

    def enroll(
        self, gallery: str, items: Sequence[NewSupport], on_conflict: OnConflict, keep_all: bool = False
    ) -> list[EnrollOutcome]:
        """Enrol all items in one transaction; creates the gallery if missing. Returns one outcome per item, in order.

        The result is as if the items came one by one: of several items with one label, REPLACE keeps the last, ADD
        keeps all. FAIL refuses the whole batch when any label exists or comes twice. With `keep_all`, the items of one
        label belong together: REPLACE puts all of them in the place of the old shots, FAIL allows a new label several
        times. The first enrolment fixes the gallery's model. Without items nothing changes.

        Raises ClassExistsError (FAIL), ModelMismatchError (another model made the gallery), ValueError (an embedding
        that is not finite, or of another length; items of several models).
        """
        ...

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
        """Enrol (at least one item) as `enroll` does, unless this request was done before; returns its `answer`.

        The answer is stored in the same transaction, for a day. Raises KeyReusedError when the key came with another
        request, and what `enroll` raises.
        """
        ...

    def answered(self, once: Once) -> str | None:
        """Return the stored answer to the request, None if it was not done yet. Raises KeyReusedError."""
        ...

    def remove_class(self, gallery: str, label: str) -> None:
        """Delete the class with its images and vectors. Raises GalleryNotFoundError, ClassNotFoundError."""
        ...

    def rename_class(self, gallery: str, label: str, new_label: str) -> ClassRecord:
        """Give the class another label. Its shots, ids and times stay. Its present label changes nothing.

        Raises GalleryNotFoundError, ClassNotFoundError, ClassExistsError (another class has the new label).
        """
        ...

    def set_calibration(self, gallery: str, model_digest: str, calibration: str | None) -> None:
        """Set the gallery's own calibration for vectors of this model, as JSON; None removes it.

        It is kept, unused, while the gallery has another model. Raises GalleryNotFoundError.
        """
        ...

    def remove_gallery(self, gallery: str) -> None:
        """Delete the gallery with all its content. Raises GalleryNotFoundError."""
        ...

    def list_galleries(self) -> list[GalleryRecord]:
        """Return all galleries, ordered by name."""
        ...

    def list_classes(self, gallery: str, limit: int, after: str | None = None, search: str | None = None) -> ClassPage:
        """Return up to `limit` (at least 1) classes with labels after `after`; with `search`, only labels that contain
        it, in any case. Raises GalleryNotFoundError.
        """
        ...

    def get_class(self, gallery: str, label: str) -> ClassRecord:
        """Return the class. Raises GalleryNotFoundError, ClassNotFoundError."""
        ...

    def list_supports(self, gallery: str, label: str) -> list[Support]:
        """Return the shots of a class, oldest first. Raises GalleryNotFoundError, ClassNotFoundError."""
        ...

    def read_image(self, gallery: str, label: str, shot: int = 0) -> tuple[bytes, str]:
        """Return the bytes as uploaded, and the media type, of the shot with that index in `list_supports`.

        Raises GalleryNotFoundError, ClassNotFoundError, ImageNotFoundError (no such shot, or its image was not kept).
        """
        ...

    def check_writable(self) -> None:
        """Write a small value durably. Raises what an enrolment would."""
        ...

    def version(self) -> int:
        """Return a number that changes with every commit of any thread or process. Takes microseconds.

        Compare it for equality only, and only with one from the same object. On a database server, commits of other
        processes are noticed some milliseconds late; a caller that must see one reads the log anyway.
        """
        ...

    @property
    def damage(self) -> str | None:
        """The damage that this process or another has found, None if none or since repaired. Never blocks."""
        ...

    @property
    def remote(self) -> bool:
        """Whether the store is a server, which may become unavailable while this process runs."""
        ...

    def written(self) -> int:
        """Return the number of the latest log entry that this object wrote, 0 if none."""
        ...

    def age(self) -> float:
        """Return for how many seconds the store could not be asked for changes; 0 while it can be."""
        ...

    def changes_since(self, seq: int, gallery_id: int | None = None, limit: int = -1) -> Changes:
        """Return the changes after the point `seq` of the log (0: everything), read in one snapshot.

        With `gallery_id`, only those of that gallery. At most `limit` entries of the log, unless it is negative.
        """
        ...

    def store_id(self) -> str:
        """Return an identifier that differs from that of any other store, and changes with a restore."""
        ...

    def head(self) -> int:
        """Return the number of the log's latest entry."""
        ...

    def gallery_infos(self) -> list[tuple[GalleryInfo, int]]:
        """Return all galleries, with the number of shots of each."""
        ...

    def read_gallery(self, gallery_id: int, digest: str | None = None) -> GalleryContent:
        """Return all shots of the gallery (no images), read in one snapshot; empty if there is no such gallery.

        The vectors are those of its present model. With `digest`, they are those of that model, and shots without one
        are left out.
        """
        ...

    def close(self) -> None:
        """Release everything. A second call does nothing; any other call raises StoreUnavailableError."""
        ...
