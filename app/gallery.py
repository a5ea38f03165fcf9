"""The galleries in memory, searchable: a view of the store that follows its change log. The only importer of faiss."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import faiss
import numpy as np

from app.errors import ClassNotFoundError, GalleryNotFoundError, ModelMismatchError
from app.rwlock import ReadWriteLock
from app.store.base import GalleryChanges, GalleryInfo, Ids, Store, Vectors
from model.manifest import Manifest, Metric
from model.similarity import distances

_FLAT_INDEX: Mapping[Metric, Callable[[int], faiss.Index]] = {
    "l1": lambda dim: faiss.IndexFlat(dim, faiss.METRIC_L1),
    "l2": faiss.IndexFlatL2,
    "cosine": faiss.IndexFlatIP,  # the inner product of unit vectors: 1 - distance
}
#: Candidates asked for beyond what is likely needed, so that one search mostly suffices.
_MARGIN = 8
#: Two scores of FAISS that are closer than this (relatively) may be in either order once computed exactly.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Match:
    """A class and the distance from the query to its nearest shot: `model.similarity.distances`, never negative."""

    label: str
    distance: float


@dataclass(frozen=True, slots=True)
class _Class:
    label: str
    support_ids: tuple[int, ...]  # ascending: oldest shot first


class GalleryView:
    """One gallery: a flat (exact) index over all shots, and which class each belongs to.

    Searches run concurrently, `apply` excludes them. FAISS only proposes candidates: the distance that is reported is
    computed on the stored vectors by the function that verification uses, so that both give one number.
    """

    def __init__(self, info: GalleryInfo, metric: Metric) -> None:
        self.info = info
        self.searchable = True  # False for a model that isn't known: its classes are counted only
        self.metric = metric
        self._lock = ReadWriteLock()
        self._index = faiss.IndexIDMap2(_FLAT_INDEX[metric](info.dim))  # ids: those of the store's supports
        self._class_of: dict[int, int] = {}  # support id -> class id
        self._classes: dict[int, _Class] = {}
        self._id_of: dict[str, int] = {}  # label -> class id

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self._classes)

    def apply(self, changes: GalleryChanges) -> None:
        """Make the changed classes as `changes` has them; what is so already stays untouched."""
        shots: dict[int, list[int]] = {class_id: [] for class_id in changes.classes}
        for support_id, class_id in zip(changes.support_ids.tolist(), changes.class_ids.tolist(), strict=True):
            shots[class_id].append(support_id)
        with self._lock.writing():
            present = {id_ for ids in shots.values() for id_ in ids}
            self._remove(id_ for class_id in shots for id_ in self._shots_of(class_id) if id_ not in present)
            new = np.array([id_ not in self._class_of for id_ in changes.support_ids.tolist()], dtype=bool)
            self._index.add_with_ids(changes.vectors[new], changes.support_ids[new])
            for class_id, label in changes.classes.items():
                self._set_class(class_id, label, tuple(sorted(shots[class_id])))

    def _remove(self, support_ids: Iterable[int]) -> None:
        if gone := list(support_ids):
            # One pass over the index for all of them.
            self._index.remove_ids(faiss.IDSelectorBatch(np.array(gone, dtype=np.int64)))
            for support_id in gone:
                del self._class_of[support_id]

    def _shots_of(self, class_id: int) -> tuple[int, ...]:
        known = self._classes.get(class_id)
        return known.support_ids if known else ()

    def _set_class(self, class_id: int, label: str | None, support_ids: tuple[int, ...]) -> None:
        known = self._classes.pop(class_id, None)
        # another class may have taken the label since: of two that swap labels, the log has only how it ended
        if known and self._id_of.get(known.label) == class_id:
            del self._id_of[known.label]
        if label is not None:
            self._classes[class_id] = _Class(label, support_ids)
            self._id_of[label] = class_id
            self._class_of.update(dict.fromkeys(support_ids, class_id))

    def vectors(self, label: str) -> Vectors:
        """Return all shots of a class, oldest first, shape (n, dim). Raises ClassNotFoundError."""
        with self._lock.reading():
            class_id = self._id_of.get(label)
            if class_id is None:
                raise ClassNotFoundError(self.info.name, label)
            return self._vectors_of([class_id])

    def sample(self, limit: int) -> tuple[list[str], Vectors]:
        """Return up to `limit` classes, evenly spread over all: labels, and oldest shots, shape (n, dim)."""
        with self._lock.reading():
            found = list(self._classes.values())
            found = [found[number * len(found) // limit] for number in range(limit)] if len(found) > limit else found
            if not found:
                return [], np.empty((0, self.info.dim), dtype=np.float32)
            ids = np.array([each.support_ids[0] for each in found], dtype=np.int64)
            vectors: Vectors = self._index.reconstruct_batch(ids)
            return [each.label for each in found], vectors

    def labelled(self) -> tuple[Vectors, Ids]:
        """Return all shots, shape (n, dim), and the class of each as a number, shape (n,)."""
        with self._lock.reading():
            if not self._classes:
                return np.empty((0, self.info.dim), dtype=np.float32), np.empty(0, dtype=np.int64)
            classes = list(self._classes)
            shots = [len(self._classes[class_id].support_ids) for class_id in classes]
            return self._vectors_of(classes), np.repeat(np.array(classes, dtype=np.int64), shots)

    def _vectors_of(self, class_ids: Sequence[int]) -> Vectors:
        ids = [support_id for class_id in class_ids for support_id in self._classes[class_id].support_ids]
        vectors: Vectors = self._index.reconstruct_batch(np.array(ids, dtype=np.int64))
        return vectors

    def search(self, query: Vectors, k: int) -> list[Match]:
        """Return the `k` nearest classes (all, if there are fewer), nearest first; of equally near, by label."""
        with self._lock.reading():
            if not self._class_of:
                return []
            faiss.omp_set_num_threads(1)  # holds for the calling thread only; many searches run beside each other
            candidates = self._candidates(query[np.newaxis], k)
            vectors = self._vectors_of(candidates)
            found = [self._classes[class_id] for class_id in candidates]
        starts = np.cumsum([0, *(len(each.support_ids) for each in found[:-1])])
        nearest = np.minimum.reduceat(distances(self.metric, query[np.newaxis], vectors)[0], starts)
        matches = [Match(each.label, float(distance)) for each, distance in zip(found, nearest, strict=True)]
        return sorted(matches, key=lambda match: (match.distance, match.label))[:k]

    def _candidates(self, query: Vectors, k: int) -> list[int]:
        """Return the ids of classes among which the `k` nearest surely are.

        The search widens until it has k classes and, beyond the k-th, a shot that is farther by more than rounding:
        many shots of one class, or many classes equally far, can crowd a narrower search.
        """
        total = self._index.ntotal
        k = min(k, len(self._classes))
        fetch = ceil(k * total / len(self._classes)) + _MARGIN
        while True:
            scores, ids = self._index.search(query, min(fetch, total))
            owners = [self._class_of[support_id] for support_id in ids[0].tolist()]
            nearest = list(dict.fromkeys(owners))
            if fetch >= total or (len(nearest) >= k and self._apart(scores[0], owners.index(nearest[k - 1]))):
                return nearest
            fetch *= 4

    def _apart(self, scores: Vectors, place: int) -> bool:
        """Return whether the last score is beyond rounding of the one at `place`."""
        scale = max(abs(float(scores[place])), 1.0 if self.metric == "cosine" else 0.0)
        return abs(float(scores[-1]) - float(scores[place])) > _ROUNDING * scale


class GalleryIndex:
    """All galleries of the store, for the model of `manifest` and others. Every method may be called from any thread.

    Each call first looks whether the store has changed, in this process or another (microseconds when not), and brings
    the views up to date: it sees whatever was committed before it began. `others` gives the manifests of
    further models that galleries may be of. Those of models that it doesn't know are counted, but their vectors are
    neither kept nor searched.

    All methods pass on the store's StoreUnavailableError and StoreCorruptError.
    """

    def __init__(
        self, store: Store, manifest: Manifest, others: Callable[[str], Manifest | None] = lambda _digest: None
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._digest = manifest.digest
        self._others = others
        self._refreshing = threading.Lock()
        self._version: int | None = None  # of the store, as of the last refresh
        self._seq = 0  # how far the change log is applied
        self._views: dict[int, GalleryView] = {}  # by gallery id
        self._by_name: dict[str, GalleryView] = {}

    def refresh(self) -> None:
        """Bring the views up to date; the first call builds them. A call that fails is made good by the next."""
        if self._store.version() == self._version:
            return
        with self._refreshing:
            # Asked before the log is read: a commit in between makes the next refresh look again.
            version = self._store.version()
            if version == self._version:
                return
            changes = self._store.changes_since(self._seq)
            try:
                for gallery in changes.galleries:
                    self._apply(gallery)
            except BaseException:  # a view may be half changed (out of memory): build all of them anew
                self._seq, self._views = 0, {}
                raise
            self._by_name = {view.info.name: view for view in self._views.values()}
            self._seq, self._version = changes.seq, version

    def _apply(self, changes: GalleryChanges) -> None:
        if changes.gallery is None:
            self._views.pop(changes.gallery_id, None)
            return
        view, info = self._views.get(changes.gallery_id), changes.gallery
        manifest = self._manifest_of(info.model_digest)
        if view is None or view.info.model_digest != info.model_digest:
            if view is not None:  # the gallery has switched its model: all its vectors are others now
                changes = self._read_whole(changes)
            view = self._views[changes.gallery_id] = GalleryView(info, (manifest or self._manifest).metric)
            view.searchable = manifest is not None
        view.info = info
        if not view.searchable:
            changes = _without_vectors(changes)
        view.apply(changes)

    def _manifest_of(self, digest: str) -> Manifest | None:
        """The manifest of a model whose galleries can be searched."""
        return self._manifest if digest == self._digest else self._others(digest)

    def _read_whole(self, changes: GalleryChanges) -> GalleryChanges:
        """All of the gallery instead of its last changes."""
        for whole in self._store.changes_since(0, changes.gallery_id).galleries:
            return whole
        return changes

    def search(self, gallery: str, query: Vectors, k: int, digest: str | None = None) -> list[Match]:
        """Return the `k` classes (at least 1; fewer if the gallery has fewer) nearest to `query`, shape (dim,).

        The query is of the model `digest`, which must be the gallery's; by default, whichever that is.

        A class's distance is that of its nearest shot; no class comes twice. Nearest first; of equally near, by label.
        Raises GalleryNotFoundError, ModelMismatchError (the gallery is of another model), ValueError.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        view = self._searchable(gallery, digest)
        if query.shape != (view.info.dim,) or not np.isfinite(query).all():
            raise ValueError(f"a query must be {view.info.dim} finite numbers, not of shape {query.shape}")
        return view.search(np.ascontiguousarray(query, dtype=np.float32), k)

    def vectors(self, gallery: str, label: str, digest: str | None = None) -> Vectors:
        """Return the vectors of a class's shots, oldest first, shape (n, dim); see `search` for `digest`.

        Raises GalleryNotFoundError, ClassNotFoundError, ModelMismatchError.
        """
        return self._searchable(gallery, digest).vectors(label)

    def digest(self, gallery: str) -> str | None:
        """Return the digest of the gallery's model, None where there is no such gallery."""
        self.refresh()
        view = self._by_name.get(gallery)
        return None if view is None else view.info.model_digest

    def sample(self, gallery: str, limit: int, digest: str | None = None) -> tuple[list[str], Vectors, Metric]:
        """Return up to `limit` classes, evenly spread over all: their labels, and their oldest shots, shape (n, dim).

        And the metric that compares them; see `search` for `digest`. Raises GalleryNotFoundError, ModelMismatchError.
        """
        view = self._searchable(gallery, digest)
        return *view.sample(limit), view.metric

    def labelled(self, gallery: str, digest: str | None = None) -> tuple[Vectors, Ids]:
        """Return all shots of a gallery, shape (n, dim), and the class of each as a number, shape (n,).

        Raises GalleryNotFoundError, ModelMismatchError.
        """
        return self._searchable(gallery, digest).labelled()

    def calibration(self, gallery: str) -> str | None:
        """Return the JSON of the gallery's own calibration, None where it has none. Raises GalleryNotFoundError."""
        return self._view(gallery).info.calibration

    def size(self, gallery: str) -> int:
        """Return the number of classes. Raises GalleryNotFoundError."""
        return len(self._view(gallery))

    def sizes(self) -> dict[str, int]:
        """Return the number of classes of each gallery, galleries of other models too."""
        self.refresh()
        return {name: len(view) for name, view in self._by_name.items()}

    def _searchable(self, gallery: str, digest: str | None = None) -> GalleryView:
        view = self._view(gallery)
        if not view.searchable and self._manifest_of(view.info.model_digest):  # its model has come since
            with self._refreshing:
                self._seq, self._version, self._views = 0, None, {}
            view = self._view(gallery)
        if not view.searchable or view.info.model_digest != (digest or view.info.model_digest):
            raise ModelMismatchError(gallery, view.info.model_digest, digest or self._digest)
        return view

    def _view(self, gallery: str) -> GalleryView:
        self.refresh()
        view = self._by_name.get(gallery)
        if view is None:
            raise GalleryNotFoundError(gallery)
        return view


def _without_vectors(changes: GalleryChanges) -> GalleryChanges:
    none: Ids = np.empty(0, dtype=np.int64)
    return replace(changes, support_ids=none, class_ids=none, vectors=changes.vectors[:0])
