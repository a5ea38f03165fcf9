"""All parts of the service, built from the settings in one place and closed in reverse order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.access import Gate
from app.backup import INDEX_FOLDER, serving
from app.batching import Batcher
from app.errors import ConflictError, ModelNotFoundError, StartupError, StoreCorruptError, StoreUnavailableError
from app.following import Follower
from app.gallery import GalleryIndex
from app.health import Health
from app.lifecycle import Lifecycle
from app.metrics import Metrics
from app.models import Models, ModelShelf, RunningModel
from app.recognizer import Recognizer
from app.remodel import Remodeller
from app.settings import Settings, variable
from app.snapshots import Snapshots
from app.store import SqlStore, open_store
from app.store.models import MODEL
from app.workers import WorkPool
from model import DEFAULT_ARTIFACT, artifact_folder
from model.artifact import Artifact, ArtifactError
from model.embedder import DeviceError, Embedder, choose_form
from model.images import ImageLimits

_STORE_THREADS = 4


@dataclass(frozen=True)
class Service:
    """The running parts."""

    settings: Settings
    metrics: Metrics
    models: Models
    store: SqlStore
    index: GalleryIndex
    storing: WorkPool
    remodeller: Remodeller
    health: Health
    gate: Gate

    @property
    def embedder(self) -> Embedder:
        """The model that answers what concerns no gallery."""
        return self.models.primary.embedder

    @property
    def batcher(self) -> Batcher:
        """The queue in front of that model."""
        return self.models.primary.batcher

    @property
    def recognizer(self) -> Recognizer:
        """The use cases over that model."""
        return self.models.primary.recognizer


@asynccontextmanager
async def open_service(
    settings: Settings, metrics: Metrics, lifecycle: Lifecycle | None = None
) -> AsyncIterator[Service]:
    """Build every part; the network warms up in the background. Raises StartupError with one clear line."""
    lifecycle = lifecycle or Lifecycle()
    with ExitStack() as parts:
        service = await asyncio.to_thread(_build, settings, metrics, lifecycle, parts)
        service.remodeller.start(asyncio.get_running_loop())
        if service.store.remote:
            parts.callback(Follower(service.index, service.gate).close)
        try:
            yield service
        finally:
            # in a thread, because the loop must stay free to deliver the last results
            await asyncio.to_thread(parts.close)


def _build(settings: Settings, metrics: Metrics, lifecycle: Lifecycle, parts: ExitStack) -> Service:
    home = _home(settings.home)
    try:
        parts.enter_context(serving(home))
    except (ConflictError, OSError) as error:
        raise StartupError(f"{variable('home')}: {error}") from error
    shelf = ModelShelf(home)
    store = open_store(home, settings.store)
    parts.callback(store.close)
    artifact = _artifact(settings, store, shelf)
    index = GalleryIndex(store, artifact.manifest, shelf.manifest, Snapshots(home / INDEX_FOLDER, store))
    _read(index, store)
    storing = _store_pool(settings, parts)
    searching = _store_pool(settings, parts) if store.remote else storing  # a silent server keeps its threads waiting
    decoding = WorkPool("decode", os.cpu_count() or 1, settings.max_queue)
    parts.callback(decoding.close)

    def start(artifact: Artifact) -> RunningModel:
        embedder = Embedder(artifact, settings.device, settings.threads, settings.engine)
        batcher = _batcher(embedder, settings, metrics, lifecycle)
        recognizer = Recognizer(
            embedder=embedder,
            batcher=batcher,
            store=store,
            index=index,
            decoding=decoding,
            storing=storing,
            searching=searching,
            limits=ImageLimits(settings.max_pixels),
            keep_images=settings.keep_images,
        )
        return RunningModel(embedder, batcher, recognizer)

    try:
        primary = start(artifact)
    except DeviceError as error:
        raise StartupError(f"{variable('device')}, {variable('engine')}: {error}") from error
    models = Models(primary, shelf, index, searching, start)
    parts.callback(models.close)
    remodeller = Remodeller(home, store.models, store.version, models)
    parts.callback(remodeller.close)
    manifest = artifact.manifest
    facts = {"device": primary.embedder.device, "engine": primary.embedder.engine}
    metrics.describe(version=version("oneshot"), model=manifest.model_id, **facts)
    health = Health(lifecycle, models, store, storing)
    gate = Gate(settings, store.keys, storing)
    return Service(settings, metrics, models, store, index, storing, remodeller, health, gate)


def _store_pool(settings: Settings, parts: ExitStack) -> WorkPool:
    # roomier than what comes before it: refusing an image that has been through the network would waste the pass
    pool = WorkPool("store", _STORE_THREADS, 2 * (settings.max_queue + settings.max_batch))
    parts.callback(pool.close)
    return pool


def _read(index: GalleryIndex, store: SqlStore) -> None:
    try:
        index.refresh()
    except (StoreCorruptError, StoreUnavailableError) as error:
        raise StartupError(f"Can't read the store {store.name}: {error}") from error


def _batcher(embedder: Embedder, settings: Settings, metrics: Metrics, lifecycle: Lifecycle) -> Batcher:
    batcher = Batcher(
        embedder.embed,
        max_batch=settings.max_batch,
        max_queue=settings.max_queue,
        warm_up=lambda: embedder.warm_up((1, settings.max_batch)),
        metrics=metrics,
        on_death=lambda: lifecycle.fail("The worker thread is dead."),
    )
    batcher.start()
    return batcher


def _artifact(settings: Settings, store: SqlStore, shelf: ModelShelf) -> Artifact:
    """The model to start with: the one that is set, else the data folder's own, else the shipped one."""
    try:
        own = store.models.fact(MODEL)
        if settings.model is None and own is not None and own not in shelf and store.remote:
            _take_shipped(own, shelf)
        if settings.model is None and own is not None and own in shelf:
            base, int8 = shelf.forms(own)
        else:
            own, (base, int8) = None, shelf.put_forms(artifact_folder(settings.model or DEFAULT_ARTIFACT))
        digest = choose_form(base, int8, device=settings.device, engine=settings.engine, present=own)
        artifact = shelf.load(digest)
        store.models.want(digest)
    except DeviceError as error:
        raise StartupError(f"{variable('device')}, {variable('engine')}: {error}") from error
    except (ArtifactError, ModelNotFoundError) as error:
        raise StartupError(f"{variable('model')}: {error}") from error
    except StoreCorruptError as error:
        raise StartupError(f"Can't read the store {store.name}: {error}") from error
    except (OSError, StoreUnavailableError) as error:
        raise StartupError(f"{variable('home')}: {settings.home} can't be written: {error}") from error
    return artifact


def _take_shipped(digest: str, shelf: ModelShelf) -> None:
    """The store has a model that the data folder lacks: a new server must not change the model of all others."""
    shelf.put_forms(artifact_folder(DEFAULT_ARTIFACT))
    if digest not in shelf:
        raise StartupError(
            f"{variable('model')}: the store has the model {digest[:12]}, which the data folder lacks; name it, or "
            f"copy it from another server's data folder (models/{digest})"
        )


def _home(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"{variable('home')}: {home} can't be used as a folder: {error.strerror}") from error
    return home
