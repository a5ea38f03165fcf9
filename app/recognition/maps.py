"""Maps of galleries: computed one at a time in a thread, and cached until the gallery changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from app.concurrency.thread_pool import WorkPool
from app.errors import GalleryNotFoundError
from app.gallery.projection import F64, Neighbours, Projection, nearest, project
from app.gallery.protocol import Edition, Galleries
from app.inference.protocols import Network
from app.names import DEFAULT_GALLERY
from app.recognition.calibrations import Calibrations

#: Limits of a map: classes, and neighbours of each.
MAP_SIZE = 2000
MAP_NEIGHBOURS = 5
#: Size of the cache. A map of 2,000 classes has about 1.5 MB.
KEPT_BYTES = 32 << 20


@dataclass(frozen=True)
class GalleryMap:
    """Up to MAP_SIZE classes of a gallery with `size`: labels, points, nearest others and their similarities (n, k)."""

    labels: list[str]
    projection: Projection
    near: Neighbours
    similarities: F64
    size: int


def draw_map(index: Galleries, calibrations: Calibrations, model: Network, gallery: str) -> GalleryMap:
    """Compute the map of a gallery with that model. Raises GalleryNotFoundError, ModelMismatchError."""
    calibration = calibrations.of(gallery)
    try:
        labels, vectors, metric = index.sample(gallery, MAP_SIZE, model.digest)
        size = index.size(gallery)
    except GalleryNotFoundError:
        if gallery != DEFAULT_GALLERY:
            raise
        labels, vectors, metric, size = [], np.empty((0, 1), dtype=np.float32), model.metric, 0
    near = nearest(metric, vectors, MAP_NEIGHBOURS)
    return GalleryMap(labels, project(vectors), near, calibration.probability(near.distances), size)


@dataclass(frozen=True)
class _Kept:
    edition: Edition
    body: bytes


class Maps:
    """A cache of rendered maps, up to `kept_bytes`. For one event loop.

    `looking` has the threads that query the galleries. Rendering takes up to seconds, so it has the pool `making`,
    where no quick work waits.
    """

    def __init__(self, index: Galleries, looking: WorkPool, making: WorkPool, kept_bytes: int = KEPT_BYTES) -> None:
        self._index, self._looking, self._making = index, looking, making
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    async def get(self, gallery: str, digest: str, make: Callable[[], bytes]) -> bytes:
        """The rendered map of the gallery by the model `digest`, cached or made now. Raises OverloadedError."""
        kept = await self._looking.run(partial(self._find, gallery, digest))
        return kept if kept is not None else await self._making.run(partial(self._make, gallery, digest, make))

    def _find(self, gallery: str, digest: str) -> bytes | None:
        edition = self._index.edition(gallery)
        with self._lock:
            kept = self._kept.get((gallery, digest))
            if kept is None or kept.edition != edition:
                return None
            self._kept.move_to_end((gallery, digest))
            return kept.body

    def _make(self, gallery: str, digest: str, make: Callable[[], bytes]) -> bytes:
        kept = self._find(gallery, digest)  # made meanwhile, while this call was queued
        if kept is not None:
            return kept
        edition = self._index.edition(gallery)  # read first: a change while the map is made outdates it
        body = make()
        with self._lock:
            self._kept[gallery, digest] = _Kept(edition, body)
            self._kept.move_to_end((gallery, digest))
            while sum(len(each.body) for each in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)
        return body
