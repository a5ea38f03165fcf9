"""What the use cases ask of the galleries, whether these lie in this process or in parts elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from app.store.base import GalleryInfo, Ids
from model.distances import Vectors
from model.manifest import Metric

#: Numbers that mean something to the view that gave them only.
Edition: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Match:
    """A class and the distance from the query to its nearest shot: `model.distances.distances`, never negative."""

    label: str
    distance: float


@dataclass(frozen=True)
class Found:
    """The classes nearest to a query, nearest first; of equally near, by label.

    And what to judge them by: how many classes the gallery has, and the JSON of its own calibration, None where it has
    none.
    """

    matches: list[Match]
    size: int
    calibration: str | None = None


class Galleries(Protocol):
    """All galleries of the store, searchable. Every method may be called from any thread.

    Each call sees what this process has committed before, and what others have, with the reservations of
    `GalleryIndex`. `digest` is that of the model that a caller takes the gallery to be of; by default, whichever it is.
    All methods raise UnavailableError and StoreCorruptError when what they need can't be had.
    """

    def refresh(self) -> None:
        """Bring all views up to date."""

    def reaches(self, seq: int) -> bool:
        """Whether the views have come to that point of the change log, after a look at the store itself at need."""

    def age(self) -> float:
        """Return for how many seconds the views may be out of date: 0 while the store can be asked. Never blocks."""

    def find(self, gallery: str, query: Vectors, k: int, digest: str | None = None) -> Found:
        """Return the `k` classes (at least 1; fewer if the gallery has fewer) nearest to `query`, shape (dim,).

        A class's distance is that of its nearest shot; no class comes twice. Raises GalleryNotFoundError,
        ModelMismatchError, ValueError.
        """

    def find_at_once(self, gallery: str, query: Vectors, k: int, digest: str) -> Found | None:
        """Return what `find` does, or None where that could take longer than handing it to a thread. Never waits."""

    def vectors(self, gallery: str, label: str, digest: str | None = None) -> Vectors:
        """Return the vectors of a class's shots, oldest first, shape (n, dim).

        Raises GalleryNotFoundError, ClassNotFoundError, ModelMismatchError.
        """

    def sample(self, gallery: str, limit: int, digest: str | None = None) -> tuple[list[str], Vectors, Metric]:
        """Return up to `limit` classes, evenly spread over all: their labels, and their oldest shots, shape (n, dim).

        And the metric that compares them. Raises GalleryNotFoundError, ModelMismatchError.
        """

    def labelled(self, gallery: str, digest: str | None = None) -> tuple[Vectors, Ids]:
        """Return all shots of a gallery, shape (n, dim), and the class of each as a number, shape (n,).

        Raises GalleryNotFoundError, ModelMismatchError.
        """

    def info(self, gallery: str) -> GalleryInfo:
        """Return the gallery's model and calibration. Raises GalleryNotFoundError."""

    def last_digest(self, gallery: str) -> str | None:
        """Return what `digest` last was, as far as this process knows. Never blocks."""

    def digest(self, gallery: str) -> str | None:
        """Return the digest of the gallery's model, None where there is no such gallery."""

    def size(self, gallery: str) -> int:
        """Return the number of classes. Raises GalleryNotFoundError."""

    def sizes(self) -> dict[str, int]:
        """Return the number of classes of each gallery, galleries of unknown models too."""

    def edition(self, gallery: str) -> Edition:
        """Return what is another whenever the gallery's classes, vectors or calibration are; compare for equality."""

    def moving(self, gallery: str) -> bool:
        """Whether the gallery has another model already than its view, which is being replaced."""

    def prepare(self, gallery_id: int, name: str, digest: str) -> None:
        """Write what a large gallery will need once it has the model `digest`. Blocks."""
