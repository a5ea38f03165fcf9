"""All parts of the service, built from the settings in one place and closed in reverse order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.access.gate import Gate
from app.concurrency.thread_pool import Pools, WorkPool
from app.errors import (
    ModelNotFoundError,
    StartupError,
    StoreCorruptError,
    StoreUnavailableError,
    UnavailableError,
)
from app.gallery.protocol import Galleries
from app.home.model_shelf import ModelShelf
from app.inference.protocols import Network, Queue
from app.lifecycle import Lifecycle
from app.pace import PACE, Pace
from app.recognition.gallery_recognizer import GalleryRecognizer
from app.recognition.maps import Maps
from app.recognition.model_change import Remodeller
from app.recognition.recognizer import Recognizer
from app.recognition.running_models import Models, RunningModel
from app.service.choose_model import choose_model, held_home
from app.service.compute import Compute, Here
from app.service.follower import Follower
from app.service.health import Health
from app.service.inspector import Inspector
from app.settings import Settings, variable
from app.store import SqlStore, open_store
from app.telemetry.metrics import Metrics
from model.embedder import DeviceError
from model.images import ImageLimits

_STORE_THREADS = 4
#: Most maps and calibrations that wait for the one thread that computes them.
_LONG_WORK = 32


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    metrics: Metrics
    models: Models
    galleries: GalleryRecognizer
    store: SqlStore
    index: Galleries
    pools: Pools
    remodeller: Remodeller
    health: Health
    gate: Gate

    @property
    def storing(self) -> WorkPool:
        """The threads that read the store."""
        return self.pools.storing

    @property
    def embedder(self) -> Network:
        """The primary model, for requests without a gallery."""
        return self.models.primary.embedder

    @property
    def batcher(self) -> Queue:
        """The queue in front of the primary model."""
        return self.models.primary.batcher

    @property
    def recognizer(self) -> Recognizer:
        """The use cases with the primary model."""
        return self.models.primary.recognizer


@asynccontextmanager
async def open_service(
    settings: Settings,
    metrics: Metrics,
    lifecycle: Lifecycle | None = None,
    compute: Compute | None = None,
    pace: Pace = PACE,
) -> AsyncIterator[Service]:
    """Build every part. By default all is in this process, where the network warms up in the background.

    Raises StartupError with a message of one line.
    """
    lifecycle = lifecycle or Lifecycle()
    compute = compute or Here(settings, metrics, lifecycle)
    with ExitStack() as parts:
        service = await asyncio.to_thread(_build, settings, metrics, lifecycle, compute, pace=pace, parts=parts)
        service.remodeller.start(asyncio.get_running_loop())
        if service.store.remote:
            parts.callback(Follower(service.index, service.gate).close)
        try:
            yield service
        finally:
            # in a thread, because the loop must stay free to deliver the last results
            await asyncio.to_thread(parts.close)


def _build(
    settings: Settings, metrics: Metrics, lifecycle: Lifecycle, compute: Compute, *, pace: Pace, parts: ExitStack
) -> Service:
    shelf = ModelShelf(parts.enter_context(held_home(settings)))
    store = open_store(settings.home, settings.store)
    parts.callback(store.close)
    store.keep_reserve(settings.reserve_bytes)
    manifest = choose_model(settings, store, shelf, compute.device, compute.engine)
    index = compute.galleries(store, shelf, manifest)
    _read(index, store)
    pools = _pools(settings, store, compute)
    parts.callback(pools.close)
    maps = Maps(index, pools.searching, pools.computing)

    def start(digest: str) -> RunningModel:
        embedder, batcher = compute.network(shelf, digest)
        recognizer = Recognizer(
            embedder=embedder,
            batcher=batcher,
            store=store,
            index=index,
            pools=pools,
            maps=maps,
            limits=ImageLimits(settings.max_pixels),
            keep_images=settings.keep_images,
        )
        return RunningModel(embedder, batcher, recognizer)

    try:
        primary = start(manifest.digest)
    except DeviceError as error:
        raise StartupError(f"{variable('device')}, {variable('engine')}: {error}") from error
    except ModelNotFoundError as error:
        raise StartupError(f"{variable('model')}: {error}") from error
    models = Models(primary, shelf, index, start)
    parts.callback(models.close)
    _want(manifest.digest, store, settings.home)  # only once it runs
    remodeller = Remodeller(settings.home, store.models, store.version, models, pace)
    parts.callback(remodeller.close)
    if not store.remote:  # a database server checks its own data
        parts.callback(Inspector(settings.home, store, pace).close)
    facts = {"device": primary.embedder.device, "engine": primary.embedder.engine}
    metrics.describe(version=version("oneshot"), model=primary.embedder.model_id, **facts)
    health = Health(lifecycle, models, store, pools.writing, pace)
    gate = Gate(settings, store.keys, pools.keys, pace)
    parts.callback(gate.close)
    galleries = GalleryRecognizer(models, index, pools.searching)
    return Service(settings, metrics, models, galleries, store, index, pools, remodeller, health, gate)


def _want(digest: str, store: SqlStore, home: Path) -> None:
    try:
        store.models.want(digest)
    except StoreCorruptError as error:
        raise StartupError(f"Can't read the store {store.name}: {error}") from error
    except StoreUnavailableError as error:
        raise StartupError(f"{variable('home')}: {home} can't be written: {error}") from error


def _pools(settings: Settings, store: SqlStore, compute: Compute) -> Pools:
    # larger than the queues before it: refusing an image after its forward pass would waste the pass
    room = 2 * (settings.max_queue + settings.max_batch)
    storing = WorkPool("store", _STORE_THREADS, room)
    apart = store.remote or compute.searches > _STORE_THREADS  # threads may wait for a silent server
    return Pools(
        decoding=WorkPool("decode", os.cpu_count() or 1, settings.max_queue),
        storing=storing,
        writing=WorkPool("store", _STORE_THREADS, room),
        keys=WorkPool("store", 1, room),
        searching=WorkPool("store", compute.searches, room) if apart else storing,
        computing=WorkPool("compute", 1, _LONG_WORK),
    )


def _read(index: Galleries, store: SqlStore) -> None:
    try:
        index.refresh()
    except (StoreCorruptError, UnavailableError) as error:
        raise StartupError(f"Can't read the store {store.name}: {error}") from error
