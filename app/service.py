"""All parts of the service, built from the settings in one place and closed in reverse order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.batching import Batcher
from app.errors import StartupError
from app.gallery import GalleryIndex
from app.metrics import Metrics
from app.recognizer import Recognizer
from app.settings import Settings, variable
from app.store import SqlStore, Store
from app.workers import WorkPool
from model import DEFAULT_ARTIFACT
from model.artifact import ArtifactError, load_artifact
from model.embedder import DeviceError, Embedder
from model.images import ImageLimits

#: The store's file in the home folder.
STORE_FILE = "oneshot.db"
_STORE_THREADS = 4


@dataclass(frozen=True)
class Service:
    """The running parts."""

    settings: Settings
    metrics: Metrics
    embedder: Embedder
    batcher: Batcher
    store: Store
    index: GalleryIndex
    recognizer: Recognizer
    storing: WorkPool


@asynccontextmanager
async def open_service(settings: Settings, metrics: Metrics) -> AsyncIterator[Service]:
    """Build every part; the network warms up in the background. Raises StartupError with one clear line."""
    with ExitStack() as parts:
        service = await asyncio.to_thread(_build, settings, metrics, parts)
        try:
            yield service
        finally:
            # in a thread, because the loop must stay free to deliver the last results
            await asyncio.to_thread(parts.close)


def _build(settings: Settings, metrics: Metrics, parts: ExitStack) -> Service:
    embedder = _embedder(settings)
    store = SqlStore(_home(settings.home) / STORE_FILE)
    parts.callback(store.close)
    index = GalleryIndex(store, embedder.manifest)
    index.refresh()
    # roomier than what comes before it: refusing an image that has been through the network would waste the pass
    storing = WorkPool("store", _STORE_THREADS, 2 * (settings.max_queue + settings.max_batch))
    parts.callback(storing.close)
    batcher = Batcher(
        embedder.embed,
        max_batch=settings.max_batch,
        max_queue=settings.max_queue,
        warm_up=lambda: embedder.warm_up((1, settings.max_batch)),
        metrics=metrics,
    )
    batcher.start()
    parts.callback(batcher.close)
    decoding = WorkPool("decode", os.cpu_count() or 1, settings.max_queue)
    parts.callback(decoding.close)
    recognizer = Recognizer(
        embedder=embedder,
        batcher=batcher,
        store=store,
        index=index,
        decoding=decoding,
        storing=storing,
        limits=ImageLimits(settings.max_pixels),
    )
    metrics.describe(version=version("oneshot"), model=embedder.manifest.model_id, device=embedder.device)
    return Service(settings, metrics, embedder, batcher, store, index, recognizer, storing)


def _embedder(settings: Settings) -> Embedder:
    path = settings.model or DEFAULT_ARTIFACT
    try:
        return Embedder(load_artifact(path), settings.device, settings.threads)
    except ArtifactError as error:
        raise StartupError(f"{variable('model')}: {error}") from error
    except DeviceError as error:
        raise StartupError(f"{variable('device')}: {error}") from error


def _home(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"{variable('home')}: {home} can't be used as a folder: {error.strerror}") from error
    return home
