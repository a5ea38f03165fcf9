"""One gallery in memory, searchable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil
from secrets import token_hex

import faiss
import numpy as np

from app.concurrency.rwlock import ReadWriteLock
from app.errors import ClassNotFoundError
from app.gallery.protocol import Found, Match
from app.gallery.segment import Segment
from app.store.base import GalleryChanges, GalleryInfo, Ids
from app.telemetry.tracing import span
from model.distances import Vectors, distances_to
from model.manifest import Metric

_FLAT_INDEX: Mapping[Metric, Callable[[int], faiss.Index]] = {
    "l1": lambda dim: faiss.IndexFlat(dim, faiss.METRIC_L1),
    "l2": faiss.IndexFlatL2,
    "cosine": faiss.IndexFlatIP,  # the inner product of unit vectors: 1 - distance
}
#: Candidates beyond those likely to be needed, so that one search is usually enough.
_MARGIN = 8
#: Two FAISS scores closer than this (relatively) may swap places once computed exactly.
_ROUNDING = 1e-5

_SERIALS = count()
_PROCESS = token_hex(8)  # the parts of a gallery are in processes that may restart


@dataclass(frozen=True, slots=True)
class _Class:
    label: str
    support_ids: tuple[int, ...]  # ascending: oldest shot first


class GalleryView:
    """One gallery: a flat (exact) index over its recent shots, and the class of each. A large gallery also has a
    segment (`base`) with the older shots. A class is in one of the two.

    Searches run concurrently; `apply` excludes them. FAISS only proposes candidates. The reported distance is computed
    on the stored vectors, by the function that verification uses, so both report the same number.
    """

    def __init__(self, info: GalleryInfo, metric: Metric, base: Segment | None = None) -> None:
        self.info = info
        self.base = base
        self.searchable = True  # False for an unknown model: its classes are only counted
        self.outdated = False  # whether it lacks changed classes because the gallery has another model now
        self.metric = metric
        self._serial, self._applied = next(_SERIALS), 0
        self._lock = ReadWriteLock()
        self._index = faiss.IndexIDMap2(_FLAT_INDEX[metric](info.dim))  # ids: those of the store's supports
        self._class_of: dict[int, int] = {}  # support id -> class id
        self._classes: dict[int, _Class] = {}
        self._id_of: dict[str, int] = {}  # label -> class id

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self._classes) + (len(self.base) if self.base else 0)

    @property
    def edition(self) -> tuple[str, int, int]:
        """Differs whenever the view may: identifies the view among those of all processes, and counts its changes."""
        return _PROCESS, self._serial, self._applied

    @property
    def recent(self) -> int:
        """Number of shots outside the segment."""
        return int(self._index.ntotal)

    def apply(self, changes: GalleryChanges) -> None:
        """Bring the changed classes to the state in `changes`; those already in it stay untouched."""
        shots: dict[int, list[int]] = {class_id: [] for class_id in changes.classes}
        for support_id, class_id in zip(changes.support_ids.tolist(), changes.class_ids.tolist(), strict=True):
            shots[class_id].append(support_id)
        with self._lock.writing():
            self._applied += 1
            for class_id in changes.classes if self.base else ():
                self._base().remove(class_id)
            present = {id_ for ids in shots.values() for id_ in ids}
            self._remove(id_ for class_id in shots for id_ in self._shots_of(class_id) if id_ not in present)
            new = np.array([id_ not in self._class_of for id_ in changes.support_ids.tolist()], dtype=bool)
            self._index.add_with_ids(changes.vectors[new], changes.support_ids[new])
            for class_id, label in changes.classes.items():
                self._set_class(class_id, label, tuple(sorted(shots[class_id])))

    def _remove(self, support_ids: Iterable[int]) -> None:
        if gone := list(support_ids):
            # one pass over the index for all of them
            self._index.remove_ids(faiss.IDSelectorBatch(np.array(gone, dtype=np.int64)))
            for support_id in gone:
                del self._class_of[support_id]

    def _shots_of(self, class_id: int) -> tuple[int, ...]:
        known = self._classes.get(class_id)
        return known.support_ids if known else ()

    def _set_class(self, class_id: int, label: str | None, support_ids: tuple[int, ...]) -> None:
        known = self._classes.pop(class_id, None)
        # another class may have taken the label since: when two swap labels, the log has only the final state
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
            if class_id is not None:
                return self._vectors_of([class_id])
            place = self.base.find(label) if self.base else None
            if place is None:
                raise ClassNotFoundError(self.info.name, label)
            return self._base().vectors_of([place])[0]

    def sample(self, limit: int) -> tuple[list[str], Vectors]:
        """Return up to `limit` classes, evenly spread over all: labels, and oldest shots, shape (n, dim)."""
        with self._lock.reading():
            if self.base and len(self.base) > limit:
                return self._sample_of_base(self.base, limit)
            found = list(self._classes.values())
            found = [found[number * len(found) // limit] for number in range(limit)] if len(found) > limit else found
            if not found:
                return [], np.empty((0, self.info.dim), dtype=np.float32)
            ids = np.array([each.support_ids[0] for each in found], dtype=np.int64)
            vectors: Vectors = self._index.reconstruct_batch(ids)
            return [each.label for each in found], vectors

    def _sample_of_base(self, base: Segment, limit: int) -> tuple[list[str], Vectors]:
        places = base.places()
        places = places[np.arange(limit) * len(places) // limit]
        vectors, ids = base.vectors_of(places)
        first = np.concatenate([[True], ids[1:] != ids[:-1]])
        return [base.label(int(place)) for place in places], vectors[first]

    def labelled(self) -> tuple[Vectors, Ids]:
        """Return all shots, shape (n, dim), and the class of each as a number, shape (n,)."""
        with self._lock.reading():
            vectors, owners = [np.empty((0, self.info.dim), dtype=np.float32)], [np.empty(0, dtype=np.int64)]
            if self.base:
                settled, ids = self.base.vectors_of(self.base.places())
                vectors, owners = [*vectors, settled], [*owners, ids]
            if self._classes:
                classes = list(self._classes)
                shots = [len(self._classes[class_id].support_ids) for class_id in classes]
                vectors.append(self._vectors_of(classes))
                owners.append(np.repeat(np.array(classes, dtype=np.int64), shots))
            return np.concatenate(vectors), np.concatenate(owners)

    def _base(self) -> Segment:
        assert self.base is not None  # noqa: S101 - asked by the caller
        return self.base

    def _vectors_of(self, class_ids: Sequence[int]) -> Vectors:
        ids = [support_id for class_id in class_ids for support_id in self._classes[class_id].support_ids]
        vectors: Vectors = self._index.reconstruct_batch(np.array(ids, dtype=np.int64))
        return vectors

    def find(self, query: Vectors, k: int) -> Found:
        """Return the `k` classes nearest to `query`, shape (dim,), and other decision inputs. Raises ValueError."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if query.shape != (self.info.dim,) or not np.isfinite(query).all():
            raise ValueError(f"a query must be {self.info.dim} finite numbers, not of shape {query.shape}")
        with span("search", k=k):
            return Found(self.search(np.ascontiguousarray(query, np.float32), k), len(self), self.info.calibration)

    def search(self, query: Vectors, k: int) -> list[Match]:
        """Return the `k` nearest classes (all, if there are fewer), nearest first, ties by label."""
        with self._lock.reading():
            matches = self._search_base(self.base, query, k) if self.base else []
            if self._class_of:
                matches += self._search_recent(query, k)
        return sorted(matches, key=lambda match: (match.distance, match.label))[:k]

    def _search_base(self, base: Segment, query: Vectors, k: int) -> list[Match]:
        found = [Match(base.label(place), distance) for place, distance in base.search(query, k)]
        # Another process may have overwritten a class that was removed after this search began.
        return [match for match in found if match.label.strip("\0")]

    def _search_recent(self, query: Vectors, k: int) -> list[Match]:
        faiss.omp_set_num_threads(1)  # only for the calling thread; many searches run in parallel
        candidates = self._candidates(query[np.newaxis], k)
        found = [self._classes[class_id] for class_id in candidates]
        nearest = distances_to(self.metric, query, self._vectors_of(candidates))
        if len(nearest) > len(found):  # some have several shots
            starts = np.cumsum([0, *(len(each.support_ids) for each in found[:-1])])
            nearest = np.minimum.reduceat(nearest, starts)
        first = sorted(zip(nearest.tolist(), (each.label for each in found), strict=True))[:k]
        return [Match(label, distance) for distance, label in first]

    def _candidates(self, query: Vectors, k: int) -> list[int]:
        """Return class ids that include the `k` nearest.

        The search widens until it has k classes and a shot that is farther than the k-th by more than rounding: many
        shots of one class, or many classes at equal distance, can fill a narrower search.
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
        """Return whether the last score differs from the one at `place` by more than rounding."""
        scale = max(abs(float(scores[place])), 1.0 if self.metric == "cosine" else 0.0)
        return abs(float(scores[-1]) - float(scores[place])) > _ROUNDING * scale
