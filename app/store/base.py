"""What the service asks of its durable store: the records, and the protocol that an implementation fulfils.

The store is the truth; every index in memory is a view of it. What a call has returned from is durable. Writes go into
an ordered change log in the same transaction, and a view follows that log (`Store.changes_since`). The log holds for
each class at most one entry, its latest, and an entry says *which* class changed, not what happened to it: reading it
yields the class as it is now. So the log stays as small as the gallery, applying it twice does no harm, replaying it
from 0 rebuilds a view from nothing, and it keeps no trace of a deleted label. Of what was deleted it has the latest
10,000 entries (`Changes.pruned`).
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

    REPLACE = "replace"  # the new shot takes the place of all the old ones
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
    """One stored shot of a class; its image is fetched apart, by `Store.read_image`."""

    id: int
    media_type: str
    embedding: Vectors
    created_at: datetime


@dataclass(frozen=True)
class ClassRecord:
    """One class: how many shots it has, when it came (UTC) and when its shots last changed."""

    gallery: str
    label: str
    supports: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class EnrollOutcome:
    """What became of one enrolled item: its class after the whole batch, and whether this item made the class."""

    class_record: ClassRecord
    created: bool


@dataclass(frozen=True)
class Once:
    """A request that is to be done once, however often it is sent: digests of its key, and of all that it asks for."""

    key: str
    request: str


@dataclass(frozen=True)
class ClassPage:
    """One page of classes, ordered by label (by code point); `next_after` asks for the next, None at the end."""

    items: list[ClassRecord]
    next_after: str | None


@dataclass(frozen=True)
class GalleryRecord:
    """One gallery: its number of classes, and the model (digest, dimension) that all its vectors are made with.

    `calibrated` says whether it has a calibration of its own.
    """

    name: str
    classes: int
    model_digest: str
    dim: int
    created_at: datetime
    calibrated: bool


@dataclass(frozen=True)
class GalleryInfo:
    """What a view needs to know of a gallery. `id` is never used again, also when the name is.

    `calibration` is the JSON of the gallery's own, None where it uses that of its model.
    """

    id: int
    name: str
    model_digest: str
    dim: int
    calibration: str | None = None


@dataclass(frozen=True)
class GalleryChanges:
    """What changed in one gallery, as it is now.

    `gallery` is None when the gallery was dropped. `classes` maps the id of each changed class to its label, None when
    the class was deleted, in the order of the log. `vectors`, shape (n, D), are all present shots of these classes;
    `support_ids` and `class_ids`, shape (n,), say which shot each row is and which class it belongs to.
    """

    gallery_id: int
    gallery: GalleryInfo | None
    classes: Mapping[int, str | None]
    support_ids: Ids
    class_ids: Ids
    vectors: Vectors

    def without_vectors(self) -> GalleryChanges:
        """Return the same of the classes alone."""
        none: Ids = np.empty(0, dtype=np.int64)
        return replace(self, support_ids=none, class_ids=none, vectors=self.vectors[:0])


@dataclass(frozen=True)
class Changes:
    """The changes after a point of the log; `seq` is the point that they lead to.

    Entries about what was deleted are dropped from the log when they are old: whoever has followed it to a point before
    `pruned`, other than 0, may have missed one.
    """

    seq: int
    galleries: list[GalleryChanges]
    pruned: int = 0


@dataclass(frozen=True)
class GalleryContent:
    """All of a gallery at the point `seq` of the log: shots ordered by class and age, and the classes' ids and labels.

    `vectors` has shape (n, D); `owners`, shape (n,), says which place in `class_ids` (ascending) each shot has.
    """

    seq: int
    vectors: Vectors
    owners: npt.NDArray[np.int32]
    class_ids: Ids
    labels: Sequence[str]


class Store(Protocol):
    """Durable galleries of labelled images. All methods may be called from any thread.

    Any method raises StoreUnavailableError when the store can't be reached or written now (locked too long, disk full,
    closed) and StoreCorruptError when it is damaged; a write that raises has changed nothing. Labels and gallery names
    are compared exactly, code point by code point.
    """

    def enroll(
        self, gallery: str, items: Sequence[NewSupport], on_conflict: OnConflict, keep_all: bool = False
    ) -> list[EnrollOutcome]:
        """Enrol all items in one transaction, and make the gallery at need; one outcome for each item, in order.

        The result is as if the items came one by one: of several items of one label, REPLACE keeps the last, ADD keeps
        all. FAIL refuses the whole batch when any label exists or comes twice. With `keep_all`, the items of one label
        come together: REPLACE keeps them all in the place of what was there, FAIL lets a new label come several times.
        The first enrolment pins the gallery's model. No items, no change.

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

        That is kept in the same transaction, for a day. Raises KeyReusedError when its key came with another request,
        and what `enroll` raises.
        """
        ...

    def answered(self, once: Once) -> str | None:
        """Return the answer that is kept for the request, None when it was not done yet. Raises KeyReusedError."""
        ...

    def remove_class(self, gallery: str, label: str) -> None:
        """Delete the class with its images and vectors. Raises GalleryNotFoundError, ClassNotFoundError."""
        ...

    def rename_class(self, gallery: str, label: str, new_label: str) -> ClassRecord:
        """Give the class another label; its shots, their ids and its times stay. Its own label changes nothing.

        Raises GalleryNotFoundError, ClassNotFoundError, ClassExistsError (another class has the new label).
        """
        ...

    def set_calibration(self, gallery: str, model_digest: str, calibration: str | None) -> None:
        """Give the gallery a calibration of its own, as JSON, or none any more, for as long as it has that model.

        It is kept while the gallery has another model. Raises GalleryNotFoundError.
        """
        ...

    def remove_gallery(self, gallery: str) -> None:
        """Delete the gallery with all that is in it. Raises GalleryNotFoundError."""
        ...

    def list_galleries(self) -> list[GalleryRecord]:
        """Return all galleries, ordered by name."""
        ...

    def list_classes(self, gallery: str, limit: int, after: str | None = None, search: str | None = None) -> ClassPage:
        """Return up to `limit` (at least 1) classes with labels after `after`, of those that contain `search` in
        upper or lower case. Raises GalleryNotFoundError.
        """
        ...

    def get_class(self, gallery: str, label: str) -> ClassRecord:
        """Return the class. Raises GalleryNotFoundError, ClassNotFoundError."""
        ...

    def list_supports(self, gallery: str, label: str) -> list[Support]:
        """Return the shots of a class, oldest first. Raises GalleryNotFoundError, ClassNotFoundError."""
        ...

    def read_image(self, gallery: str, label: str, shot: int = 0) -> tuple[bytes, str]:
        """Return the bytes as uploaded, and the media type, of the shot at that place of `list_supports`.

        Raises GalleryNotFoundError, ClassNotFoundError, ImageNotFoundError (no such shot, or its image was not kept).
        """
        ...

    def check_writable(self) -> None:
        """Write something of no importance, durably. Raises what an enrolment would."""
        ...

    def version(self) -> int:
        """Return a number that changes when anything was committed, by any thread or process; takes microseconds.

        Compare it for equality only, with one from the same object. Where the store is a database server, it hears
        of another process's commit some milliseconds late; whoever must see one reads the log anyway.
        """
        ...

    @property
    def damage(self) -> str | None:
        """What was found to be damaged, by this process or another, and was not found whole since. Never blocks."""
        ...

    @property
    def remote(self) -> bool:
        """Whether the store is a server that may be away while this process goes on."""
        ...

    def written(self) -> int:
        """Return the number of the latest entry of the change log that came by this object, 0 for none yet."""
        ...

    def age(self) -> float:
        """Return for how many seconds the store could not be asked whether anything changed; 0 while it can be."""
        ...

    def changes_since(self, seq: int, gallery_id: int | None = None, limit: int = -1) -> Changes:
        """Return what changed after the point `seq` of the log (0: everything), read in one snapshot.

        Only the changes of one gallery, if it is given; at most `limit` entries of the log, if it isn't negative.
        """
        ...

    def store_id(self) -> str:
        """Return what tells this store from every other, and from itself before a restore."""
        ...

    def head(self) -> int:
        """Return the point that the log has reached."""
        ...

    def gallery_infos(self) -> list[tuple[GalleryInfo, int]]:
        """Return all galleries, with the number of shots of each."""
        ...

    def read_gallery(self, gallery_id: int, digest: str | None = None) -> GalleryContent:
        """Return all shots of the gallery (no images), read in one snapshot; empty if there is no such gallery.

        With the vectors of its present model, or, of those shots that have them, of the model `digest`.
        """
        ...

    def close(self) -> None:
        """Release everything; a second call does nothing, any other call raises StoreUnavailableError."""
        ...
