"""Where the network runs and the galleries are: in this process or elsewhere."""

from __future__ import annotations

from typing import Protocol

from app.gallery.index import GalleryIndex
from app.gallery.protocol import Galleries
from app.gallery.segment_files import Snapshots, part_folder
from app.home.lock import INDEX_FOLDER
from app.home.model_shelf import ModelShelf
from app.inference.batcher import Batcher
from app.inference.protocols import Network, Queue
from app.lifecycle import Lifecycle
from app.settings import Settings
from app.store import SqlStore
from app.telemetry.metrics import Metrics
from model.embedder import Embedder, EngineName
from model.manifest import Manifest


class Compute(Protocol):
    """Provides the network and the galleries."""

    #: These decide the form of an artefact (see `model.embedder.choose_form`).
    device: str
    engine: EngineName
    #: Threads that query galleries; each waits for an answer.
    searches: int

    def galleries(self, store: SqlStore, shelf: ModelShelf, manifest: Manifest, /) -> Galleries:
        """Return the galleries of the store."""

    def network(self, shelf: ModelShelf, digest: str) -> tuple[Network, Queue]:
        """Start a model of the shelf. Blocks. Raises ModelNotFoundError, DeviceError."""


class Here:
    """The `Compute` of a single process."""

    searches = 4

    def __init__(self, settings: Settings, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._settings, self._metrics, self._lifecycle = settings, metrics, lifecycle
        self.device, self.engine = settings.device, settings.network_engine

    def galleries(self, store: SqlStore, shelf: ModelShelf, manifest: Manifest) -> Galleries:
        """See `Compute.galleries`."""
        folder = part_folder(self._settings.home / INDEX_FOLDER, 0, 1)
        return GalleryIndex(store, manifest, shelf.manifest, Snapshots(folder, store))

    def network(self, shelf: ModelShelf, digest: str) -> tuple[Network, Queue]:
        """See `Compute.network`; the network warms up in the background."""
        settings = self._settings
        embedder = Embedder(shelf.load(digest), self.device, settings.threads, self.engine)
        batcher = Batcher(
            embedder.embed,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            warm_up=lambda: embedder.warm_up((1, settings.max_batch)),
            metrics=self._metrics,
            on_death=lambda: self._lifecycle.fail("The worker thread is dead."),
        )
        batcher.start()
        return embedder, batcher
