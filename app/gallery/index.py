"""The galleries in memory, searchable: views of the store that follow its change log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from app.errors import GalleryNotFoundError, ModelMismatchError, OneshotError, StoreUnavailableError
from app.gallery.protocol import Edition, Found
from app.gallery.segment import SEGMENT_FROM
from app.gallery.segment_files import Snapshots
from app.gallery.view import GalleryView
from app.store.base import GalleryChanges, GalleryInfo, Ids, Store
from app.store.follow_log import AT_ONCE, LogCutError, changes_since
from app.telemetry.logs import get_logger
from model.distances import Vectors
from model.manifest import Manifest, Metric

log = get_logger(__name__)

_PATIENCE_SECONDS = 0.5
#: Searching a gallery of at most this many classes takes less time than waking a thread.
_SMALL = 2_000


@dataclass
class _Move:
    """A gallery whose view is being replaced by one of another model; `info` is its latest state."""

    info: GalleryInfo
    done: threading.Event = field(default_factory=threading.Event)


class GalleryIndex:
    """All galleries of the store, for the model of `manifest` and others. Every method may be called from any thread.

    Each call first checks whether the store has changed, in this process or another (microseconds if not), and updates
    the views: it sees everything that was committed before it began. `others` returns the manifests of further models
    that galleries may have. Galleries of unknown models are counted, but their vectors are neither kept nor searched.
    The change log is read `at_once` entries at a time.

    All methods pass on the store's StoreUnavailableError and StoreCorruptError. There are two exceptions where the
    store is a server (`Store.remote`). While it is unavailable, the views stay in use and `age` says how old they are.
    And a commit of another process may be seen some milliseconds late, except after `reaches`.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        others: Callable[[str], Manifest | None] = lambda _digest: None,
        snapshots: Snapshots | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._at_once = at_once
        self._settling: set[int] = set()  # galleries whose segment is being built
        self._moving: dict[int, _Move] = {}  # large galleries whose view of another model is being built
        self._manifest = manifest
        self._digest = manifest.digest
        self._others = others
        self._refreshing = threading.Lock()
        self._version: int | None = None  # of the store, as of the last refresh
        self._seq = 0  # how far the change log is applied
        self._whole = False  # whether the views show a state that the store once had
        self._current_at = time.monotonic()  # when the views were last known to match the store
        self._views: dict[int, GalleryView] = {}  # by gallery id
        self._by_name: dict[str, GalleryView] = {}

    def refresh(self) -> None:
        """Bring the views up to date; the first call builds them. After a failed call, the next one catches up."""
        while not self._is_current():
            # the holder of the lock may be waiting for a silent server: check again whether that is known by now
            if self._refreshing.acquire(timeout=_PATIENCE_SECONDS):
                try:
                    self._refresh()
                    return
                finally:
                    self._refreshing.release()

    def _refresh(self) -> None:
        # Read before the log: after a commit in between, the next refresh looks again.
        version = self._store.version()
        if self._is_current():
            return
        try:
            self._follow()
            self._version, self._whole = version, True
        except BaseException as error:
            # changes read in parts leave the views intact; after any other error a view may be half changed
            if not (isinstance(error, StoreUnavailableError) and self._store.remote and self._whole):
                self._begin_anew()
                raise
        self._by_name = {view.info.name: view for view in self._views.values()}
        self._settle()

    def _is_current(self) -> bool:
        """Whether nothing has changed, as far as this can be known now."""
        if self._store.version() == self._version:
            self._current_at = time.monotonic()
            return True
        return self._whole and self._store.age() > 0  # the store would not answer

    def _begin_anew(self) -> None:
        """Make the next refresh rebuild all views."""
        self._seq, self._version, self._views, self._whole = 0, None, {}, False

    def age(self) -> float:
        """See `Galleries.age`."""
        age = self._store.age()
        if age and self._store.version() != self._version:
            return max(age, time.monotonic() - self._current_at)
        return age

    def reaches(self, seq: int) -> bool:
        """See `Galleries.reaches`."""
        if self._seq < seq:
            self.refresh()
        if self._seq < seq:
            with self._refreshing:
                self._version = None
            self.refresh()
        return self._seq >= seq

    def _load(self, snapshots: Snapshots) -> None:
        """Build the views from segments and the changes since then, instead of from the whole log."""
        head, infos = self._store.head(), self._store.gallery_infos()
        snapshots.forget_others(info for info, _ in infos)
        self._views = {info.id: self._open(info, shots) for info, shots in infos}
        self._seq = head

    def _open(self, info: GalleryInfo, shots: int) -> GalleryView:
        """Build a gallery's view from the store's present state."""
        manifest = self._manifest_of(info.model_digest)
        metric, base = (manifest or self._manifest).metric, None
        if manifest and self._snapshots:
            base = self._snapshots.load(info, metric)
            if base is None and shots >= SEGMENT_FROM:
                base = self._snapshots.build(info, metric, cluster=False)  # clustered later, in the background
        view = GalleryView(info, metric, base)
        view.searchable = manifest is not None
        self._catch_up(view, base.header.seq if base else 0)
        return view

    def _catch_up(self, view: GalleryView, seq: int) -> None:
        for changes in changes_since(self._store, seq, view.info.id, self._at_once):
            for gallery in changes.galleries:
                if gallery.gallery is not None and gallery.gallery.model_digest == view.info.model_digest:
                    view.apply(gallery if view.searchable else gallery.without_vectors())

    def _follow(self) -> None:
        """Apply all changes of the log."""
        try:
            if self._snapshots and not self._seq:
                self._load(self._snapshots)
            for changes in changes_since(self._store, self._seq, at_once=self._at_once):
                for gallery in changes.galleries:
                    self._apply(gallery)
                self._seq = changes.seq
        except LogCutError:
            log.info("log_was_cut", seq=self._seq)
            self._begin_anew()
            self._follow()

    def _apply(self, changes: GalleryChanges) -> None:
        info = changes.gallery
        if info is None:
            self._views.pop(changes.gallery_id, None)
            if self._snapshots:
                self._snapshots.forget(changes.gallery_id)
            return
        view = self._views.get(info.id)
        if view is not None and (view.info.model_digest != info.model_digest or info.id in self._moving):
            self._move(view, info, changes)
            return
        if view is None:
            manifest = self._manifest_of(info.model_digest)
            view = self._views[info.id] = GalleryView(info, (manifest or self._manifest).metric)
            view.searchable = manifest is not None
        view.info = info
        view.apply(changes if view.searchable else changes.without_vectors())

    def _move(self, view: GalleryView, info: GalleryInfo, changes: GalleryChanges) -> None:
        """Replace the view of a gallery that has another model now, and therefore other vectors.

        A large view is built in the background, and the present one answers until it is complete. Classes that change
        meanwhile can only be removed from the present view; requests then wait for the new one.
        """
        move = self._moving.get(info.id)
        if move is None and (len(view) < SEGMENT_FROM or not view.searchable):
            self._views[info.id] = self._open(info, len(view))
            return
        none = np.empty((0, view.info.dim), np.float32)
        view.apply(replace(changes, classes=dict.fromkeys(changes.classes), vectors=none).without_vectors())
        view.outdated |= any(label is not None for label in changes.classes.values())
        if move is not None:
            move.info = info
            return
        move = self._moving[info.id] = _Move(info)
        threading.Thread(target=self._build_moved, args=(view, move), name="move", daemon=True).start()

    def _build_moved(self, view: GalleryView, move: _Move) -> None:
        try:
            while not self._try_move(view, move):  # the gallery has switched again
                pass
        except Exception:  # of any kind: the next refresh rebuilds all views
            log.exception("moving_failed", gallery=move.info.name)
            with self._refreshing:
                self._begin_anew()
                self._moving.pop(move.info.id, None)
        move.done.set()

    def _try_move(self, view: GalleryView, move: _Move) -> bool:
        info = move.info
        fresh = self._open(info, len(view))
        with self._refreshing:
            if self._views.get(info.id) is view:
                if move.info.model_digest != info.model_digest:
                    return False
                # from its own start: applying changes twice does no harm
                self._catch_up(fresh, fresh.base.header.seq if fresh.base else 0)
                fresh.info = move.info
                self._replace(fresh)
            del self._moving[info.id]
        log.info("gallery_moved", gallery=info.name, model=info.model_digest[:12])
        return True

    def _replace(self, fresh: GalleryView) -> None:
        self._views[fresh.info.id] = fresh
        self._by_name = {view.info.name: view for view in self._views.values()}

    def prepare(self, gallery_id: int, name: str, digest: str) -> None:
        """See `Galleries.prepare`."""
        manifest, view = self._manifest_of(digest), self._views.get(gallery_id)
        if self._snapshots and manifest and view and len(view) >= SEGMENT_FROM:
            info = GalleryInfo(gallery_id, name, digest, manifest.similarity.dim)
            self._snapshots.build(info, manifest.metric)

    def moving(self, gallery: str) -> bool:
        """See `Galleries.moving`."""
        self.refresh()
        view = self._by_name.get(gallery)
        return view is not None and view.info.id in self._moving

    @property
    def settling(self) -> bool:
        """Whether a segment is being built in the background."""
        return bool(self._settling)

    @property
    def settled(self) -> bool:
        """Whether every large gallery has its segment."""
        return not any(self._due(view) for view in self._views.values())

    def _settle(self) -> None:
        """Build new segments in the background, for galleries with many shots outside their segment."""
        for gallery_id, view in self._views.items() if self._snapshots else ():
            if self._due(view) and gallery_id not in self._settling and gallery_id not in self._moving:
                self._settling.add(gallery_id)
                threading.Thread(target=self._rebuild, args=(view,), name="settle", daemon=True).start()

    @staticmethod
    def _due(view: GalleryView) -> bool:
        """Whether a new segment is due."""
        unclustered = view.base is not None and not view.base.clustered
        much = view.recent >= max(SEGMENT_FROM, view.base.rows // 8 if view.base else 0)
        return view.searchable and (much or unclustered)

    def _rebuild(self, view: GalleryView) -> None:
        """Replace a view by one with a new segment. The old view answers until then."""
        snapshots, info = self._snapshots, view.info
        try:
            assert snapshots is not None  # noqa: S101 - _settle asked
            base = snapshots.build(info, view.metric, view.base.header.seq if view.base else -1)
            fresh = GalleryView(info, view.metric, base)
            self._catch_up(fresh, base.header.seq)
            with self._refreshing:
                if self._views.get(info.id) is view and info.id not in self._moving:
                    fresh.info = view.info
                    self._catch_up(fresh, base.header.seq)
                    self._replace(fresh)
        except LogCutError:
            log.warning("settling_failed", gallery=info.name, reason="more was deleted meanwhile than the log keeps")
        except OneshotError as error:  # the store is closed or can't be read now; the next change tries again
            log.warning("settling_failed", gallery=info.name, reason=str(error))
        except Exception:
            log.exception("settling_failed", gallery=info.name)
        finally:
            self._settling.discard(info.id)

    def _manifest_of(self, digest: str) -> Manifest | None:
        """The manifest of the model, or None if galleries of it can't be searched."""
        return self._manifest if digest == self._digest else self._others(digest)

    def find(self, gallery: str, query: Vectors, k: int, digest: str | None = None) -> Found:
        """See `Galleries.find`."""
        return self._searchable(gallery, digest).find(query, k)

    def find_at_once(self, gallery: str, query: Vectors, k: int, digest: str) -> Found | None:
        """See `Galleries.find_at_once`."""
        view = self._by_name.get(gallery)
        if view is None or not view.searchable or view.outdated or view.info.model_digest != digest:
            return None
        at_once = len(view) <= _SMALL and not self._store.remote and self._is_current()
        return view.find(query, k) if at_once else None

    def vectors(self, gallery: str, label: str, digest: str | None = None) -> Vectors:
        """See `Galleries.vectors`."""
        return self._searchable(gallery, digest).vectors(label)

    def last_digest(self, gallery: str) -> str | None:
        """See `Galleries.last_digest`."""
        view = self._by_name.get(gallery)
        return None if view is None else view.info.model_digest

    def digest(self, gallery: str) -> str | None:
        """See `Galleries.digest`."""
        self.refresh()
        view = self._by_name.get(gallery)
        return None if view is None else view.info.model_digest

    def edition(self, gallery: str) -> Edition:
        """See `Galleries.edition`."""
        self.refresh()
        view = self._by_name.get(gallery)
        return () if view is None else view.edition

    def sample(self, gallery: str, limit: int, digest: str | None = None) -> tuple[list[str], Vectors, Metric]:
        """See `Galleries.sample`."""
        view = self._searchable(gallery, digest)
        return *view.sample(limit), view.metric

    def labelled(self, gallery: str, digest: str | None = None) -> tuple[Vectors, Ids]:
        """See `Galleries.labelled`."""
        return self._searchable(gallery, digest).labelled()

    def info(self, gallery: str) -> GalleryInfo:
        """See `Galleries.info`."""
        return self._view(gallery).info

    def size(self, gallery: str) -> int:
        """See `Galleries.size`."""
        return len(self._view(gallery))

    def sizes(self) -> dict[str, int]:
        """See `Galleries.sizes`."""
        self.refresh()
        return {name: len(view) for name, view in self._by_name.items()}

    def _searchable(self, gallery: str, digest: str | None = None) -> GalleryView:
        view = self._view(gallery)
        if not view.searchable and self._manifest_of(view.info.model_digest):  # the model was installed since
            with self._refreshing:
                self._begin_anew()
            view = self._view(gallery)
        if not view.searchable or view.info.model_digest != (digest or view.info.model_digest):
            raise ModelMismatchError(gallery, view.info.model_digest, digest or self._digest)
        return view

    def _view(self, gallery: str) -> GalleryView:
        self.refresh()
        view = self._by_name.get(gallery)
        if view is not None and view.outdated and (move := self._moving.get(view.info.id)):
            move.done.wait()
            view = self._by_name.get(gallery)
        if view is None:
            raise GalleryNotFoundError(gallery)
        return view
