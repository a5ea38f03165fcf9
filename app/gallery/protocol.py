"""Interface of the galleries, which are in this process or in parts elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from app.store.base import GalleryInfo, Ids
from model.distances import Vectors
from model.manifest import Metric

#: Opaque numbers; they mean something only to the view that returned them.
Edition: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Match:
    """A class and the distance from the query to its nearest shot: `model.distances.distances`, never negative."""

    label: str
    distance: float


@dataclass(frozen=True)
class Found:
    """The classes nearest to a query, nearest first, ties by label, and further inputs of a decision.

    `size` is the number of classes in the gallery; `calibration` is the JSON of its own calibration, None without one.
    """

    matches: list[Match]
    size: int
    calibration: str | None = None


class Galleries(Protocol):
    """All galleries of the store, searchable. Every method may be called from any thread.

    Each call sees what this process has committed before. It also sees commits of other processes, with the limits that
    `GalleryIndex` documents. `digest` names the model that the caller expects the gallery to have; None accepts any.
    All methods raise UnavailableError and StoreCorruptError when data that they need can't be read.
    """

    def refresh(self) -> None:
        """Bring all views up to date."""

    def reaches(self, seq: int) -> bool:
        """Whether the views have reached point `seq` of the change log. Reads the store itself if they have not."""

    def age(self) -> float:
        """Return for how many seconds the views may be out of date: 0 while the store answers. Never blocks."""

    def find(self, gallery: str, query: Vectors, k: int, digest: str | None = None) -> Found:
        """Return the `k` classes (at least 1; fewer if the gallery has fewer) nearest to `query`, shape (dim,).

        A class's distance is that of its nearest shot; no class comes twice. Raises GalleryNotFoundError,
        ModelMismatchError, ValueError.
        """

    def find_at_once(self, gallery: str, query: Vectors, k: int, digest: str) -> Found | None:
        """Return what `find` does, or None if that could take longer than handing it to a thread. Never waits."""

    def vectors(self, gallery: str, label: str, digest: str | None = None) -> Vectors:
        """Return the vectors of a class's shots, oldest first, shape (n, dim).

        Raises GalleryNotFoundError, ClassNotFoundError, ModelMismatchError.
        """

    def sample(self, gallery: str, limit: int, digest: str | None = None) -> tuple[list[str], Vectors, Metric]:
        """Return up to `limit` classes, evenly spread over all: labels, oldest shots, shape (n, dim), and the metric.

        Raises GalleryNotFoundError, ModelMismatchError.
        """

    def labelled(self, gallery: str, digest: str | None = None) -> tuple[Vectors, Ids]:
        """Return all shots of a gallery, shape (n, dim), and the class of each as a number, shape (n,).

        Raises GalleryNotFoundError, ModelMismatchError.
        """

    def info(self, gallery: str) -> GalleryInfo:
        """Return the gallery's model and calibration. Raises GalleryNotFoundError."""

    def last_digest(self, gallery: str) -> str | None:
        """Return the last known result of `digest` in this process. Never blocks."""

    def digest(self, gallery: str) -> str | None:
        """Return the digest of the gallery's model, None if there is no such gallery."""

    def size(self, gallery: str) -> int:
        """Return the number of classes. Raises GalleryNotFoundError."""

    def sizes(self) -> dict[str, int]:
        """Return the number of classes of each gallery, including galleries of unknown models."""

    def edition(self, gallery: str) -> Edition:
        """Return a value that changes with the gallery's classes, vectors and calibration. Compare it for equality."""

    def moving(self, gallery: str) -> bool:
        """Whether the gallery has switched to another model while its view is still being replaced."""

    def prepare(self, gallery_id: int, name: str, digest: str) -> None:
        """Write the files that a large gallery will need once it has the model `digest`. Blocks."""
