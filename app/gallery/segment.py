"""The large, settled part of a gallery: arrays in memory-mapped files, searched through an inverted-file index.

The vectors are sorted by list (k-means cell). A search probes the `probes` lists nearest to the query; that number was
measured when the segment was built, so that the nearest vector is found almost always. A small segment has one list
and is searched exactly. All processes on a data folder share the files' pages.

The files are immutable, with one exception: when a class is replaced or deleted, its vectors and label are overwritten
with zeros at once. Each row has its own checksum, so this needs no other bookkeeping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.store.base import Ids
from model.distances import Vectors, distances_to
from model.manifest import Metric

Rows = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]

CHUNK = 20_000
FORMAT = 1
HEADER_FILE = "header.json"
#: A gallery with more recent shots than this gets a segment. In files, shots take a third of the memory.
SEGMENT_FROM = 4_000
#: A segment with fewer vectors than this is searched exactly.
EXACT_UP_TO = 20_000
_GONE = -1
FIXED = (
    "class_ids",
    "shot_starts",
    "shots",
    "label_starts",
    "by_label",
    "centroids",
    "list_starts",
    "sums",
    "label_sums",
)
_CHANGING = ("vectors", "owners", "labels")


class SegmentError(Exception):
    """The files are not an intact segment, or not the wanted one."""


@dataclass(frozen=True)
class Header:
    """What a segment is a copy of: one gallery of one store, by one model, at one point of the change log."""

    store_id: str
    gallery_id: int
    model_digest: str
    metric: Metric
    seq: int
    probes: int


class Segment:
    """An open segment. Searches may run concurrently; `remove` must exclude them."""

    def __init__(self, header: Header, arrays: dict[str, Any], folder: Path) -> None:
        self.header = header
        self.folder = folder
        self._vectors: Vectors = arrays["vectors"].view(np.ndarray)  # the same memory, without memmap's overhead
        self._owners: Ints = np.array(arrays["owners"])  # a copy: removals by other processes come through the log
        self._shared_owners: Ints = arrays["owners"].view(np.ndarray)
        self._class_ids: Ids = arrays["class_ids"].view(np.ndarray)
        self._shot_starts: Rows = arrays["shot_starts"].view(np.ndarray)
        self._shots: Ints = arrays["shots"].view(np.ndarray)
        self._label_starts: Rows = arrays["label_starts"].view(np.ndarray)
        self._labels = arrays["labels"].view(np.ndarray)
        self._by_label: Ints = arrays["by_label"].view(np.ndarray)
        self._centroids: Vectors = np.array(arrays["centroids"])
        self._half_norms: Vectors = (self._centroids**2).sum(axis=1) / 2
        self._list_starts: Rows = np.array(arrays["list_starts"])
        first = self._shots[self._shot_starts[:-1]] if len(self._class_ids) else np.empty(0, np.int32)
        self._alive = self._owners[first] != _GONE

    def __len__(self) -> int:
        """Return the number of classes."""
        return int(self._alive.sum())

    @property
    def rows(self) -> int:
        """Number of shots, including removed ones."""
        return len(self._owners)

    @property
    def lists(self) -> int:
        """Number of lists."""
        return len(self._list_starts) - 1

    @property
    def clustered(self) -> bool:
        """Whether it has the lists that its size calls for."""
        return not self.exact or self.rows < EXACT_UP_TO

    @property
    def exact(self) -> bool:
        """Whether every search looks at every vector."""
        return len(self._list_starts) == 2

    # -- classes -------------------------------------------------------------------------------------------

    def place_of(self, class_id: int) -> int | None:
        """Return the place of a class, None if it isn't there."""
        place = int(np.searchsorted(self._class_ids, class_id))
        there = place < len(self._class_ids) and self._class_ids[place] == class_id and self._alive[place]
        return place if there else None

    def find(self, label: str) -> int | None:
        """Return the place of the class of that label, None if it isn't there."""
        wanted, low, high = label.encode("utf-8", "surrogatepass"), 0, len(self._by_label)
        if not high:
            return None
        while low < high:
            middle = (low + high) // 2
            # a removed class has lost its label, but not its place in the order: look at the next ones
            at = middle
            while at < high and not self._alive[self._by_label[at]]:
                at += 1
            if at == high:
                high = middle
            elif self._label_bytes(int(self._by_label[at])) < wanted:
                low = at + 1
            else:
                high = middle
        while low < len(self._by_label) and not self._alive[self._by_label[low]]:
            low += 1
        if low == len(self._by_label):
            return None
        place = int(self._by_label[low])
        return place if self._label_bytes(place) == wanted else None

    def places(self) -> Ints:
        """Return the places of all classes."""
        found: Ints = np.flatnonzero(self._alive).astype(np.int32)
        return found

    def label(self, place: int) -> str:
        """Return the label of the class at that place."""
        return self._label_bytes(place).decode("utf-8", "surrogatepass")

    def _label_bytes(self, place: int) -> bytes:
        content: bytes = self._labels[self._label_starts[place] : self._label_starts[place + 1]].tobytes()
        return content

    def vectors_of(self, places: Sequence[int] | Ints) -> tuple[Vectors, Ids]:
        """Return the shots of the classes, oldest first, shape (n, D), and the class id of each, shape (n,)."""
        rows = [self._shots[self._shot_starts[place] : self._shot_starts[place + 1]] for place in places]
        joined = np.concatenate(rows) if rows else np.empty(0, np.int32)
        ids = np.repeat(self._class_ids[np.asarray(places, dtype=np.int64)], [len(each) for each in rows])
        return np.ascontiguousarray(self._vectors[joined]), ids

    def remove(self, class_id: int) -> bool:
        """Remove a class, and overwrite its data in the files. Return False if it isn't there."""
        place = self.place_of(class_id)
        if place is None:
            return False
        rows = np.array(self._shots[self._shot_starts[place] : self._shot_starts[place + 1]])
        self._owners[rows] = _GONE
        self._alive[place] = False
        self._shared_owners[rows] = _GONE
        self._vectors[rows] = 0
        self._labels[self._label_starts[place] : self._label_starts[place + 1]] = 0
        return True

    # -- search --------------------------------------------------------------------------------------------

    def search(self, query: Vectors, k: int) -> list[tuple[int, float]]:
        """Return the places and distances of the `k` nearest classes, nearest first."""
        probes = self.header.probes
        while (found := self._search_lists(query, k, probes)) is None:
            probes *= 4
        return found

    def _search_lists(self, query: Vectors, k: int, probes: int) -> list[tuple[int, float]] | None:
        """Search the nearest lists. Return None if they have too few classes and there are more lists."""
        ranges = self._ranges_near(query, probes)
        owners = self._owners[_flatten(ranges)]
        alive = int((owners != _GONE).sum())
        fetch = min(alive, 4 * k + 32)
        scores = np.where(owners == _GONE, np.inf, scores_of(self.header.metric, query, self._vectors, ranges))
        while fetch:
            whole = fetch == len(scores)
            best = np.arange(fetch) if whole else np.argpartition(scores, fetch - 1)[:fetch]
            nearest = np.unique(owners[best])
            if len(nearest) >= k:
                return self._exactly(query, nearest, k)
            if fetch == alive:
                break
            fetch = min(alive, 4 * fetch)
        if probes < self.lists:
            return None
        return self._exactly(query, np.unique(owners[owners != _GONE]), k) if alive else []

    def _exactly(self, query: Vectors, places: Ints, k: int) -> list[tuple[int, float]]:
        vectors, _ = self.vectors_of(places)
        counts = self._shot_starts[places + 1] - self._shot_starts[places]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        nearest = np.minimum.reduceat(distances_to(self.header.metric, query, vectors), starts)
        order = np.argsort(nearest, kind="stable")[: max(k, 1) + 8]
        return [(int(places[each]), float(nearest[each])) for each in order]

    def _ranges_near(self, query: Vectors, probes: int) -> list[tuple[int, int]]:
        """Return the row ranges of the `probes` lists whose centres are nearest to the query."""
        if probes >= self.lists:
            return [(0, self.rows)]
        nearness = self._centroids @ query - self._half_norms
        lists = np.sort(np.argpartition(-nearness, probes)[:probes])
        ranges = zip(self._list_starts[lists].tolist(), self._list_starts[lists + 1].tolist(), strict=True)
        return list(ranges)


def _flatten(ranges: Sequence[tuple[int, int]]) -> Rows:
    return np.concatenate([np.arange(start, end) for start, end in ranges])


def scores_of(metric: Metric, query: Vectors, vectors: Vectors, ranges: Sequence[tuple[int, int]]) -> Vectors:
    """Return scores that rank the rows of the ranges as their distances do."""
    found: list[Vectors] = []
    for start, end in ranges:
        for low in range(start, end, CHUNK):
            part = vectors[low : min(end, low + CHUNK)]
            if metric == "cosine":
                found.append(-(part @ query))
            elif metric == "l2":
                difference = part - query
                found.append(np.einsum("nd,nd->n", difference, difference))
            else:
                found.append(np.abs(part - query).sum(axis=1))
    return np.concatenate([*found, np.empty(0, np.float32)])


def parts_of(vectors: Vectors) -> Iterator[Vectors]:
    """Yield the rows in blocks that fit into a cache."""
    for start in range(0, len(vectors), CHUNK):
        yield vectors[start : start + CHUNK]


# -- opening -----------------------------------------------------------------------------------------------


def read_header(folder: Path) -> tuple[Header, dict[str, str]]:
    """Read the segment's header and the digests of its files. Raises SegmentError."""
    try:
        content = json.loads((folder / HEADER_FILE).read_text())
        if content.pop("format") != FORMAT:
            raise SegmentError(f"{folder} is of another format")
        digests = content.pop("digests")
        return Header(**content), digests
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SegmentError(f"{folder} has no readable header: {error}") from error


def open_segment(folder: Path) -> Segment:
    """Map a segment's files after verifying all checksums. Raises SegmentError."""
    header, digests = read_header(folder)
    try:
        for name in FIXED:
            if digest_of(folder / f"{name}.npy") != digests.get(name):
                raise SegmentError(f"{folder}: {name} is damaged")
        arrays: dict[str, Any] = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r+" if name in _CHANGING else "r", allow_pickle=False)
            if (folder / f"{name}.npy").stat().st_size > 128
            else np.load(folder / f"{name}.npy", allow_pickle=False)
            for name in (*FIXED, *_CHANGING)
        }
    except (OSError, ValueError, EOFError) as error:
        raise SegmentError(f"{folder} can't be read: {error}") from error
    _check(folder, arrays)
    return Segment(header, arrays, folder)


def _check(folder: Path, arrays: dict[str, Any]) -> None:
    vectors, owners, sums = arrays["vectors"], arrays["owners"], arrays["sums"]
    alive = owners != _GONE
    first = np.repeat(np.arange(len(arrays["class_ids"])), np.diff(arrays["shot_starts"]))
    expected = np.empty(len(owners), np.int32)
    expected[arrays["shots"]] = first
    if not np.array_equal(owners[alive], expected[alive]):
        raise SegmentError(f"{folder}: owners is damaged")
    found = np.concatenate([*(row_sums(part) for part in parts_of(vectors)), np.empty(0, np.uint32)])
    if not np.array_equal(found[alive], sums[alive]):
        raise SegmentError(f"{folder}: vectors is damaged")
    whole = np.zeros(len(arrays["class_ids"]), bool)
    whole[first] = alive[arrays["shots"]]
    labels = label_sums_of(arrays["labels"], arrays["label_starts"])
    if not np.array_equal(labels[whole], arrays["label_sums"][whole]):
        raise SegmentError(f"{folder}: labels is damaged")


def row_sums(vectors: Vectors) -> npt.NDArray[np.uint32]:
    """Return a checksum of each row, shape (n,). It changes when any one value does."""
    words = np.ascontiguousarray(vectors).view(np.uint32)
    factors = 2 * np.arange(1, words.shape[1] + 1, dtype=np.uint32) + 1
    found: npt.NDArray[np.uint32] = (words * factors).sum(axis=1, dtype=np.uint32)
    return found


def label_sums_of(labels: npt.NDArray[np.uint8], starts: Rows) -> npt.NDArray[np.uint32]:
    """Return a checksum of each label."""
    if not len(labels):
        return np.zeros(len(starts) - 1, np.uint32)
    within = np.arange(len(labels), dtype=np.int64) - np.repeat(starts[:-1], np.diff(starts))
    words = (labels.astype(np.uint32) + 1) * (2 * within.astype(np.uint32) + 1)
    return np.add.reduceat(words, starts[:-1], dtype=np.uint32)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
