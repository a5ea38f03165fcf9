"""Changes the model of a data folder: every gallery is embedded again from its images, then switched in one step.

The change can be interrupted at any time and continues where it stopped: each new vector is stored beside the present
one. Of all processes on a data folder, one does the work.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import (
    BadImageError,
    ConflictError,
    ImagesNotKeptError,
    ModelNotFoundError,
    OneshotError,
    UnavailableError,
)
from app.home.lock import alone
from app.pace import PACE, Pace
from app.recognition.running_models import Models, RunningModel
from app.store.models import MODEL, PREVIOUS_MODEL, ModelStore, Progress
from app.telemetry.logs import get_logger
from model.distances import Vectors

log = get_logger(__name__)

LOCK_FILE = "remodel.lock"
_RETRY_SECONDS = 0.2
#: Longest pause after failed work on a gallery; pauses are doubled up to this.
_LONGEST_SECONDS = 300.0
#: Errors that a retry can't fix.
_FOR_GOOD = (ImagesNotKeptError, BadImageError)

Embed = Callable[[Sequence[bytes]], Vectors]


@dataclass(frozen=True)
class Change:
    """A change of the model: the wanted model, the previous one, and the galleries that still have another."""

    model: str | None
    previous: str | None
    pending: list[Progress]

    @property
    def shots(self) -> int:
        """Shots in the galleries that still have another model."""
        return sum(each.shots for each in self.pending)

    @property
    def done(self) -> int:
        """Shots among them that have the wanted model's vector."""
        return sum(each.done for each in self.pending)


def read_change(store: ModelStore) -> Change:
    """Read the state of the change."""
    model = store.fact(MODEL)
    pending = [] if model is None else store.progress(model)
    return Change(model, store.fact(PREVIOUS_MODEL), pending)


def want_model(store: ModelStore, digest: str) -> None:
    """Make all galleries change to the model. Raises ImagesNotKeptError if one of them can't."""
    lacking = [each for each in store.progress(digest) if each.without_image]
    if lacking:
        raise ImagesNotKeptError(lacking[0].gallery, lacking[0].without_image)
    store.want(digest)


def previous_model(store: ModelStore) -> str:
    """The model to go back to. Raises ConflictError when there is none."""
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
    chunk: int = PACE.model_chunk,
) -> bool:
    """Embed the gallery's shots with the new model and switch it. Return False if stopped. Raises what `embed` raises.

    `chunk` shots are embedded between two commits. `prepare` is called when all are embedded, before the switch.
    """
    prepared = False
    while not stopped():
        waiting = store.waiting(gallery.gallery_id, digest, chunk)
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


@dataclass
class _Failure:
    """A gallery whose work has failed: its embedded images, failures without progress since, and the time of retry."""

    done: int
    times: int
    again: float


class Held:
    """Galleries on hold: some have failed and are retried after growing pauses, others can't change at all.

    All are for one wanted model. Another wanted model clears them.
    """

    def __init__(self, first_pause: float = PACE.model_pause) -> None:
        self._first_pause = first_pause
        self._digest: str | None = None
        self._failures: dict[int, _Failure] = {}

    def of(self, digest: str) -> None:
        """Set the wanted model. If it differs from the one before, no gallery is on hold any more."""
        if digest != self._digest:
            self._digest, self._failures = digest, {}

    def holds(self, gallery_id: int) -> bool:
        """Whether the gallery is on hold now."""
        failure = self._failures.get(gallery_id)
        return failure is not None and time.monotonic() < failure.again

    def fail(self, gallery: Progress, *, done: int, for_good: bool) -> float:
        """Put the gallery, which has `done` images embedded, on hold. Return for how many seconds."""
        before = self._failures.get(gallery.gallery_id)
        times = before.times + 1 if before is not None and before.done == done else 0
        pause = math.inf if for_good else min(_LONGEST_SECONDS, self._first_pause * 2.0 ** min(times, 20))
        self._failures[gallery.gallery_id] = _Failure(done, times, time.monotonic() + pause)
        return pause

    def seconds(self, gallery_ids: Iterable[int]) -> float:
        """Seconds until the first of these galleries is retried."""
        times = (each.again for id_ in gallery_ids if (each := self._failures.get(id_)) is not None)
        return max(0.0, min(times, default=math.inf) - time.monotonic())


class Remodeller:
    """The thread of a running service that carries out the wanted change."""

    def __init__(
        self, home: Path, store: ModelStore, version: Callable[[], int], models: Models, pace: Pace = PACE
    ) -> None:
        self._home = home
        self._store = store
        self._version = version
        self._models = models
        self._pace = pace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self.held = Held(pace.model_pause)
        self._thread = threading.Thread(target=self._run, name="remodel", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread. `loop` is the event loop of the models' batchers."""
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """End the thread. The next start continues unfinished work."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        seen: int | None = None
        again = 0.0
        while not self._stopping.wait(self._pace.model_look):
            try:
                version = self._version()
                if version != seen or time.monotonic() >= again:
                    again = time.monotonic() + self._work()
                    seen = version
            except ModelNotFoundError as error:
                log.warning("model_change_waits", reason=error.detail)
                self._stopping.wait(10)
            except UnavailableError:
                self._stopping.wait(_RETRY_SECONDS)
            except Exception:
                log.exception("model_change_failed")
                self._stopping.wait(10)

    def _work(self) -> float:
        """Do all work that is due. Return the seconds until more is due if the store does not change."""
        change = read_change(self._store)
        if change.model is None:
            return math.inf
        self.held.of(change.model)
        due = [each for each in change.pending if not self.held.holds(each.gallery_id)]
        if due:
            with alone(self._home / LOCK_FILE) as here, self._store.alone() as there:
                if here and there:
                    for gallery in due:
                        self._remodel(gallery, change.model)
                    self._store.forget_others()
            return 0.0
        if self._models.primary.digest != change.model and not change.pending:
            self._models.make_primary(change.model)
            log.info("model_changed", model=self._models.primary.recognizer.model_id)
        return self.held.seconds(each.gallery_id for each in change.pending)

    def _remodel(self, gallery: Progress, digest: str) -> None:
        model = self._models.get(digest)
        log.info("model_change", gallery=gallery.gallery, shots=gallery.shots, done=gallery.done)
        added = 0

        def embed(pictures: Sequence[bytes]) -> Vectors:
            nonlocal added
            vectors = self._embed(model, pictures)
            if gallery.problem is not None and not added:
                self._store.hold(gallery.gallery_id, digest, None)
            added += len(pictures)
            return vectors

        try:
            switched = remodel(
                self._store,
                gallery,
                digest,
                model.embedder.dim,
                embed=embed,
                stopped=self._stopping.is_set,
                prepare=lambda: self._models.prepare(gallery.gallery_id, gallery.gallery, digest),
                chunk=self._pace.model_chunk,
            )
            if switched:
                log.info("gallery_switched", gallery=gallery.gallery, model=model.recognizer.model_id)
        except UnavailableError:
            raise
        except Exception as error:
            # this gallery's alone: the others continue
            self._hold(gallery, digest, error, gallery.done + added)

    def _hold(self, gallery: Progress, digest: str, error: Exception, done: int) -> None:
        """Put the gallery on hold, for a while or for good, and record why."""
        for_good = isinstance(error, _FOR_GOOD)
        seconds = self.held.fail(gallery, done=done, for_good=for_good)
        known = isinstance(error, OneshotError)
        about = {"gallery": gallery.gallery, "reason": str(error)}
        if for_good:
            log.error("model_change_refused", **about)
        else:
            log.error("model_change_repeated", seconds=seconds, exc_info=None if known else error, **about)
        problem = (
            (error.detail if error.public else error.title) if isinstance(error, OneshotError) else "Internal error"
        )
        what = "the gallery keeps its model" if for_good else "it is tried again, each time later"
        self._store.hold(gallery.gallery_id, digest, f"{problem.rstrip('.')}; {what}.")

    def _embed(self, model: RunningModel, pictures: Sequence[bytes]) -> Vectors:
        assert self._loop is not None  # noqa: S101 - set by start
        work = asyncio.run_coroutine_threadsafe(model.recognizer.embed_stored(pictures), self._loop)
        while True:
            try:
                return work.result(0.5)
            except TimeoutError:
                if work.done():  # raised by the work itself
                    raise
                if self._stopping.is_set():
                    work.cancel()
                    raise UnavailableError("stopping") from None
