"""The change of a data folder's model: every gallery is embedded anew from its images, then switched in one step.

It can be stopped at any time and goes on where it was: each vector that is made is kept beside the present one.
Of all processes on one data folder, one does the work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.batching import F32
from app.errors import ConflictError, ImagesNotKeptError, ModelNotFoundError, OneshotError, UnavailableError
from app.locks import alone
from app.logs import get_logger
from app.models import Models
from app.store.models import MODEL, PREVIOUS_MODEL, ModelStore, Progress

log = get_logger(__name__)

LOCK_FILE = "remodel.lock"
_CHUNK = 32
_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 0.2

Embed = Callable[[Sequence[bytes]], F32]


@dataclass(frozen=True)
class Change:
    """A change of the model: to which, from which it can be gone back to, and the galleries that have another yet."""

    model: str | None
    previous: str | None
    pending: list[Progress]

    @property
    def shots(self) -> int:
        """Shots in the galleries that have another model yet."""
        return sum(each.shots for each in self.pending)

    @property
    def done(self) -> int:
        """Those of them that have the new model's vector."""
        return sum(each.done for each in self.pending)


def read_change(store: ModelStore) -> Change:
    """How far the change is."""
    model = store.fact(MODEL)
    pending = [] if model is None else store.progress(model)
    return Change(model, store.fact(PREVIOUS_MODEL), pending)


def want_model(store: ModelStore, digest: str) -> None:
    """Make all galleries change to the model. Raises ImagesNotKeptError when one of them can't."""
    lacking = [each for each in store.progress(digest) if each.without_image]
    if lacking:
        raise ImagesNotKeptError(lacking[0].gallery, lacking[0].without_image)
    store.want(digest)


def previous_model(store: ModelStore) -> str:
    """The model that can be gone back to. Raises ConflictError when there is none."""
    digest = store.fact(PREVIOUS_MODEL)
    if digest is None:
        raise ConflictError("There was no other model before the present one.")
    return digest


def remodel(
    store: ModelStore,
    gallery: Progress,
    digest: str,
    dim: int,
    *,
    embed: Embed,
    stopped: Callable[[], bool],
    prepare: Callable[[], None] = lambda: None,
) -> bool:
    """Embed the gallery's shots anew and switch it; False when stopped before. Raises what `embed` raises.

    `prepare` is called when all shots are embedded, before the switch.
    """
    prepared = False
    while not stopped():
        waiting = store.waiting(gallery.gallery_id, digest, _CHUNK)
        pictures = [each.image for each in waiting if each.image is not None]
        if len(pictures) < len(waiting):
            raise ImagesNotKeptError(gallery.gallery, len(waiting) - len(pictures))
        if waiting:
            store.add_vectors(digest, [each.support_id for each in waiting], embed(pictures))
        elif not prepared:
            prepare()
            prepared = True
        elif store.switch(gallery.gallery_id, digest, dim):
            return True
    return False


class Remodeller:
    """The thread of a running service that carries out what the store says is wanted."""

    def __init__(self, home: Path, store: ModelStore, version: Callable[[], int], models: Models) -> None:
        self._home = home
        self._store = store
        self._version = version
        self._models = models
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self.refused: set[int] = set()  # ids of galleries that can't change
        self._thread = threading.Thread(target=self._run, name="remodel", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; `loop` is where the models' batchers are awaited."""
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """End the thread; what is half done goes on at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        seen: int | None = None
        while not self._stopping.wait(_LOOK_SECONDS):
            try:
                version = self._version()
                if version != seen and self._work():
                    seen = version
            except ModelNotFoundError as error:
                log.warning("model_change_waits", reason=error.detail)
                self._stopping.wait(10)
            except UnavailableError:
                self._stopping.wait(_RETRY_SECONDS)
            except Exception:
                log.exception("model_change_failed")
                self._stopping.wait(10)

    def _work(self) -> bool:
        """Whether nothing is left to do for this version of the store."""
        change = read_change(self._store)
        if change.model is None:
            return True
        pending = [each for each in change.pending if each.gallery_id not in self.refused]
        if pending:
            with alone(self._home / LOCK_FILE) as here, self._store.alone() as there:
                if here and there:
                    for gallery in pending:
                        self._remodel(gallery, change.model)
                    self._store.forget_others()
            return False
        if self._models.primary.digest != change.model and not change.pending:
            self._models.make_primary(change.model)
            log.info("model_changed", model=self._models.primary.recognizer.model_id)
        return True

    def _remodel(self, gallery: Progress, digest: str) -> None:
        model = self._models.get(digest)
        log.info("model_change", gallery=gallery.gallery, shots=gallery.shots, done=gallery.done)

        def embed(pictures: Sequence[bytes]) -> F32:
            assert self._loop is not None  # noqa: S101 - set by start
            work = asyncio.run_coroutine_threadsafe(model.recognizer.embed_stored(pictures), self._loop)
            while True:
                try:
                    return work.result(0.5)
                except TimeoutError:
                    if self._stopping.is_set():
                        work.cancel()
                        raise UnavailableError("stopping") from None

        try:
            switched = remodel(
                self._store,
                gallery,
                digest,
                model.embedder.dim,
                embed=embed,
                stopped=self._stopping.is_set,
                prepare=lambda: self._models.prepare(gallery.gallery_id, gallery.gallery, digest),
            )
            if switched:
                log.info("gallery_switched", gallery=gallery.gallery, model=model.recognizer.model_id)
        except ImagesNotKeptError as error:
            self.refused.add(gallery.gallery_id)
            log.warning("model_change_refused", gallery=gallery.gallery, reason=error.detail)
        except UnavailableError:
            raise
        except OneshotError as error:
            self.refused.add(gallery.gallery_id)
            log.error("model_change_refused", gallery=gallery.gallery, reason=error.detail)
