"""The `Compute` of the HTTP processes: images go to the embedders, questions about galleries to the shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from app.concurrency.queue_limit import Line
from app.errors import OneshotError
from app.gallery.protocol import Galleries
from app.gallery.sharding import ShardedGalleries
from app.home.model_shelf import ModelShelf
from app.inference.protocols import Network, Queue
from app.on_ray.asking import Shards, ask, ask_soon
from app.on_ray.nodes import form
from app.settings import Settings
from app.store import SqlStore
from model.distances import Vectors
from model.embedder import Preparer
from model.manifest import Manifest
from model.preprocess import Prepared

EMBEDDER = "The network"
_SEARCHES = 32


class Cluster:
    """See `Compute`."""

    searches = _SEARCHES

    def __init__(
        self, settings: Settings, embedder: DeploymentHandle[Any], shards: Sequence[DeploymentHandle[Any]]
    ) -> None:
        self._settings, self._embedder, self._shards = settings, embedder, shards
        self.device, self.engine = form(settings)

    def galleries(self, store: SqlStore, _shelf: ModelShelf, _manifest: Manifest) -> Galleries:
        """See `Compute.galleries`. The shards have shelves of their own."""
        return ShardedGalleries(Shards(self._shards), len(self._shards), store)

    def network(self, shelf: ModelShelf, digest: str) -> tuple[Network, Queue]:
        """See `Compute.network`. Returns once an embedder has loaded the model."""
        manifest = shelf.manifest_of(digest)
        where = ask(lambda: self._embedder.run.remote(digest), EMBEDDER, seconds=None)
        if isinstance(where, OneshotError):
            raise where
        return RemoteNetwork(manifest, *where), RemoteQueue(self._embedder, digest, self._settings.max_queue)


class RemoteNetwork(Preparer):
    """A model that other processes run. Images are prepared in this one."""

    def __init__(self, manifest: Manifest, device: str, engine: str) -> None:
        super().__init__(manifest)
        self._device, self._engine = device, engine

    @property
    def device(self) -> str:
        """The device of the first embedder that answered."""
        return self._device

    @property
    def engine(self) -> str:
        """The engine of that embedder."""
        return self._engine


class RemoteQueue(Line):
    """The images that this process has sent to the embedders. An embedder batches those of all senders."""

    ready = True
    not_ready_because: str | None = None

    def __init__(self, embedder: DeploymentHandle[Any], digest: str, max_queue: int) -> None:
        super().__init__(max_queue)
        self._embedder, self._digest = embedder, digest

    async def embed(self, images: Sequence[Prepared]) -> Vectors:
        """See `Queue.embed`."""
        self._join(len(images))
        try:
            batch = np.stack(images)
            found = await ask_soon(lambda: self._embedder.embed.remote(self._digest, batch), EMBEDDER)
        finally:
            self._leave(len(images))
        if isinstance(found, OneshotError):
            raise found
        vectors: Vectors = found
        return vectors

    def close(self) -> None:
        """Does nothing: no image waits in this process."""
