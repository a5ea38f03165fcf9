"""The processes of the application on Ray: for HTTP, for the network, and for each part of the galleries.

Each opens the store, which holds all state. Any of them may die and be restarted on any node.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import Lock
from typing import Any

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from app.allocator import give_large_blocks_back
from app.api.application import create_app
from app.errors import ModelNotFoundError, OneshotError
from app.gallery.index import GalleryIndex
from app.gallery.segment_files import Snapshots, part_folder
from app.gallery.sharding import Question, ShardView, Told
from app.home.lock import INDEX_FOLDER
from app.home.model_shelf import ModelShelf
from app.inference.batcher import Batcher
from app.on_ray.compute import Cluster
from app.on_ray.nodes import form, network_device
from app.service.choose_model import choose_model, held_home
from app.service.follower import Follower
from app.settings import Settings
from app.store import open_store
from app.store.shard_key import Part
from app.telemetry.logs import configure_logging
from model.distances import Vectors
from model.embedder import DeviceError, Embedder
from model.preprocess import Prepared


def _begin(settings: Settings) -> None:
    configure_logging(settings.log_level, settings.log_format)
    give_large_blocks_back()


class Ingress:
    """Answers HTTP with the same application as everywhere else."""

    def __init__(self, settings: Settings, embedder: DeploymentHandle[Any], *shards: DeploymentHandle[Any]) -> None:
        _begin(settings)
        self._app = create_app(settings, Cluster(settings, embedder, shards))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application."""
        return self._app

    def check_health(self) -> None:
        """Raise RuntimeError when the process can't go on, so that Ray replaces it."""
        if reason := self._app.state.lifecycle.failed:
            raise RuntimeError(reason)


class NetworkReplica:
    """Runs forward passes: of the service's model from the start, of other models on request."""

    def __init__(self, settings: Settings) -> None:
        _begin(settings)
        self._settings = settings
        self._parts = ExitStack()
        self._shelf = ModelShelf(self._parts.enter_context(held_home(settings)))
        self._running: dict[str, tuple[Embedder, Batcher]] = {}
        self._loading = Lock()
        self._dead: str | None = None
        with closing(open_store(settings.home, settings.store)) as store:
            manifest = choose_model(settings, store, self._shelf, *form(settings))
        self._load(manifest.digest)

    def _load(self, digest: str) -> tuple[Embedder, Batcher]:
        settings = self._settings
        with self._loading:
            if digest not in self._running:
                embedder = Embedder(self._shelf.load(digest), network_device(settings), settings.threads or 1)
                embedder.warm_up((1, settings.max_batch))
                batcher = Batcher(
                    embedder.embed, max_batch=settings.max_batch, max_queue=settings.max_queue, on_death=self._died
                )
                batcher.start()
                self._running[digest] = embedder, batcher
            return self._running[digest]

    def _died(self) -> None:
        self._dead = "The worker thread is dead."

    async def run(self, digest: str) -> tuple[str, str] | OneshotError:
        """Load the model. Return its device and engine, or the error."""
        try:
            embedder, _ = await asyncio.to_thread(self._load, digest)
        except DeviceError as error:
            return ModelNotFoundError(digest, f"it can't be run here: {error}")
        except OneshotError as error:
            return error
        return embedder.device, embedder.engine

    async def embed(self, digest: str, batch: Prepared) -> Vectors | OneshotError:
        """The vectors (n, D) of prepared images (n, C, S, S), or the error."""
        try:
            if digest not in self._running and isinstance(refusal := await self.run(digest), OneshotError):
                return refusal
            return await self._running[digest][1].embed(list(batch))
        except OneshotError as error:
            return error

    def check_health(self) -> None:
        """Raise RuntimeError when the process can't go on, so that Ray replaces it."""
        if self._dead:
            raise RuntimeError(self._dead)


class ShardReplica:
    """Holds one part of the galleries, and follows its share of the change log."""

    def __init__(self, settings: Settings, number: int) -> None:
        _begin(settings)
        part, self._parts = Part(number, settings.shards), ExitStack()
        shelf = ModelShelf(self._parts.enter_context(held_home(settings)))
        store = open_store(settings.home, settings.store, part)
        self._parts.callback(store.close)
        manifest = choose_model(settings, store, shelf, *form(settings))
        folder = part_folder(settings.home / INDEX_FOLDER, part.number, part.of)
        index = GalleryIndex(store, manifest, shelf.manifest, Snapshots(folder, store))
        index.refresh()
        if store.remote:
            self._parts.callback(Follower(index).close)
        self._view = ShardView(index)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="shard")

    async def answer(self, question: Question) -> Told:
        """See `ShardView.answer`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._view.answer, question)
