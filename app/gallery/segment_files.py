"""The segments of all galleries: files in the data folder that all its processes share.

One process at a time builds a gallery's segment; others that waited for it use the result. A segment that is damaged,
of another store or model, or ahead of the store is deleted and built again from the store.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.gallery.segment import Header, Segment, SegmentError, open_segment, read_header
from app.gallery.segment_writer import write_segment
from app.store.base import GalleryInfo, Store
from app.telemetry.logs import get_logger
from model.manifest import Metric

log = get_logger(__name__)


class Snapshots:
    """The folder of the segments. Methods block."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    def load(self, info: GalleryInfo, metric: Metric, newer_than: int = -1) -> Segment | None:
        """Return the gallery's latest segment, if there is an intact one newer than `newer_than`."""
        for path in sorted(self._of(info.id, info.model_digest), key=_seq, reverse=True):
            try:
                header, _ = read_header(path)
                changes = self._store.changes_since(self._store.head())
                expected = (self._store.store_id(), info.id, info.model_digest, metric)
                found = (header.store_id, header.gallery_id, header.model_digest, header.metric)
                if found != expected or not changes.pruned <= header.seq <= changes.seq:
                    raise SegmentError(f"{path} is of another store or model, or too old")
                if header.seq > newer_than:
                    return open_segment(path)
                return None
            except SegmentError as error:
                log.warning("snapshot_discarded", gallery=info.name, reason=str(error))
                shutil.rmtree(path, ignore_errors=True)
        return None

    def build(self, info: GalleryInfo, metric: Metric, newer_than: int = -1, cluster: bool = True) -> Segment:
        """Return a segment of the gallery's present state, or one that another process has just built."""
        with self._alone(info.id):
            if (ready := self.load(info, metric, newer_than)) and (ready.clustered or not cluster):
                return ready
            content = self._store.read_gallery(info.id, info.model_digest)
            header = Header(self._store.store_id(), info.id, info.model_digest, metric, content.seq, 1)
            name = f"{_prefix(info.id, info.model_digest)}{content.seq}{'' if cluster else 'f'}"
            shutil.rmtree(self._folder / name, ignore_errors=True)
            built = write_segment(self._folder / name, header, content, cluster)
            for path in self._of(info.id, info.model_digest):
                if path.name != name:
                    shutil.rmtree(path, ignore_errors=True)  # a process that has mapped it keeps its pages
        log.info("snapshot_built", gallery=info.name, shots=built.rows, lists=built.lists, probes=built.header.probes)
        return built

    def forget(self, gallery_id: int) -> None:
        """Delete the segments of a gallery."""
        for path in self._folder.glob(f"g{gallery_id}-*"):
            shutil.rmtree(path, ignore_errors=True)

    def forget_others(self, infos: Iterable[GalleryInfo]) -> None:
        """Delete the segments of all other galleries, and of these galleries by other models."""
        kept = tuple(_prefix(info.id, info.model_digest) for info in infos)
        for path in self._folder.glob("g*-*"):
            if not path.name.startswith(kept):
                shutil.rmtree(path, ignore_errors=True)

    def _of(self, gallery_id: int, model_digest: str) -> list[Path]:
        return list(self._folder.glob(f"{_prefix(gallery_id, model_digest)}*"))

    @contextmanager
    def _alone(self, gallery_id: int) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"lock-{gallery_id}").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for stray in self._folder.glob(f".new-g{gallery_id}-*"):  # left by a build that was killed
                shutil.rmtree(stray, ignore_errors=True)
            yield


def part_folder(index: Path, number: int, of: int) -> Path:
    """The folder of the segments of part `number` of `of`; with one part, that of all segments.

    Segments of other divisions are deleted: no process would remove deleted classes from them.
    """
    name = f"of-{of}"
    for other in (*index.glob("of-*"), *(index.glob("g*-*") if of > 1 else ())):
        if of == 1 or other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    return index if of == 1 else index / name / str(number)


def _prefix(gallery_id: int, model_digest: str) -> str:
    return f"g{gallery_id}-{model_digest[:12]}-"


def _seq(path: Path) -> int:
    number = path.name.rpartition("-")[2].rstrip("f")
    return int(number) if re.fullmatch("[0-9]{1,19}", number) else -1
