"""The galleries in memory, searchable: views of the store that follow its change log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from app.errors import GalleryNotFoundError, ModelMismatchError, OneshotError
from app.gallery_view import GalleryView, Match
from app.logs import get_logger
from app.segment import EXACT_UP_TO
from app.snapshots import Snapshots
from app.store.base import GalleryChanges, GalleryInfo, Ids, Store, Vectors
from model.manifest import Manifest, Metric

__all__ = ["GalleryIndex", "GalleryView", "Match"]

log = get_logger(__name__)

#: Entries of the log that are read at once.
_AT_ONCE = 10_000


class GalleryIndex:
    """All galleries of the store, for the model of `manifest` and others. Every method may be called from any thread.

    Each call first looks whether the store has changed, in this process or another (microseconds when not), and brings
    the views up to date: it sees whatever was committed before it began. `others` gives the manifests of
    further models that galleries may be of. Those of models that it doesn't know are counted, but their vectors are
    neither kept nor searched.

    All methods pass on the store's StoreUnavailableError and StoreCorruptError.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        others: Callable[[str], Manifest | None] = lambda _digest: None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._settling: set[int] = set()  # galleries whose segment is being built
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
            try:
                if self._snapshots and not self._seq:
                    self._load(self._snapshots)
                while self._follow():
                    pass
            except BaseException:  # a view may be half changed (out of memory): build all of them anew
                self._seq, self._views = 0, {}
                raise
            self._by_name = {view.info.name: view for view in self._views.values()}
            self._version = version
            self._settle()

    def _load(self, snapshots: Snapshots) -> None:
        """Build the views from segments and what changed since them, instead of from the whole log."""
        head, infos = self._store.head(), self._store.gallery_infos()
        snapshots.forget_others({info.id for info, _ in infos})
        self._views = {info.id: self._open(info, shots) for info, shots in infos}
        self._seq = head

    def _open(self, info: GalleryInfo, shots: int) -> GalleryView:
        """A gallery's view as the store has it now."""
        manifest = self._manifest_of(info.model_digest)
        metric, base = (manifest or self._manifest).metric, None
        if manifest and self._snapshots:
            base = self._snapshots.load(info, metric)
            if base is None and shots >= EXACT_UP_TO:
                base = self._snapshots.build(info, metric, cluster=False)  # the lists are made in the background
        view = GalleryView(info, metric, base)
        view.searchable = manifest is not None
        self._catch_up(view, base.header.seq if base else 0)
        return view

    def _catch_up(self, view: GalleryView, seq: int) -> None:
        while True:
            changes = self._store.changes_since(seq, view.info.id, _AT_ONCE)
            for gallery in changes.galleries:
                if gallery.gallery is not None and gallery.gallery.model_digest == view.info.model_digest:
                    view.apply(gallery if view.searchable else _without_vectors(gallery))
            if changes.seq == seq:
                return
            seq = changes.seq

    def _follow(self) -> bool:
        """Apply the next changes of the log; whether there may be more."""
        changes = self._store.changes_since(self._seq, limit=_AT_ONCE)
        for gallery in changes.galleries:
            self._apply(gallery)
        self._seq = changes.seq
        return sum(1 + len(gallery.classes) for gallery in changes.galleries) >= _AT_ONCE

    def _apply(self, changes: GalleryChanges) -> None:
        info = changes.gallery
        if info is None:
            self._views.pop(changes.gallery_id, None)
            if self._snapshots:
                self._snapshots.forget(changes.gallery_id)
            return
        view = self._views.get(info.id)
        if view is not None and view.info.model_digest != info.model_digest:
            # the gallery has switched its model: all its vectors are others now
            view = self._views[info.id] = self._open(info, len(view))
        if view is None:
            manifest = self._manifest_of(info.model_digest)
            view = self._views[info.id] = GalleryView(info, (manifest or self._manifest).metric)
            view.searchable = manifest is not None
        view.info = info
        view.apply(changes if view.searchable else _without_vectors(changes))

    @property
    def settling(self) -> bool:
        """Whether a segment is being built in the background."""
        return bool(self._settling)

    @property
    def settled(self) -> bool:
        """Whether every large gallery has its segment."""
        large = [view for view in self._views.values() if len(view) >= EXACT_UP_TO]
        return all(view.base is not None and view.base.clustered for view in large)

    def _settle(self) -> None:
        """Have new segments built in the background for galleries with many recent shots."""
        for gallery_id, view in self._views.items() if self._snapshots else ():
            unclustered = view.base is not None and not view.base.clustered
            much = view.recent >= max(EXACT_UP_TO, view.base.rows // 8 if view.base else 0)
            if view.searchable and (much or unclustered) and gallery_id not in self._settling:
                self._settling.add(gallery_id)
                threading.Thread(target=self._rebuild, args=(view,), name="settle", daemon=True).start()

    def _rebuild(self, view: GalleryView) -> None:
        """Replace a view by one with a new segment; it answers until then."""
        snapshots, info = self._snapshots, view.info
        try:
            assert snapshots is not None  # noqa: S101 - _settle asked
            base = snapshots.build(info, view.metric, view.base.header.seq if view.base else -1)
            fresh = GalleryView(info, view.metric, base)
            self._catch_up(fresh, base.header.seq)
            with self._refreshing:
                if self._views.get(info.id) is view and view.info.model_digest == info.model_digest:
                    fresh.info = view.info
                    self._catch_up(fresh, base.header.seq)
                    self._views[info.id] = self._by_name[info.name] = fresh
        except OneshotError as error:  # the store is closed or can't be read now; the next change tries again
            log.warning("settling_failed", gallery=info.name, reason=str(error))
        except Exception:
            log.exception("settling_failed", gallery=info.name)
        finally:
            self._settling.discard(info.id)

    def _manifest_of(self, digest: str) -> Manifest | None:
        """The manifest of a model whose galleries can be searched."""
        return self._manifest if digest == self._digest else self._others(digest)

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
