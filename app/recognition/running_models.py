"""The models that run: that of the service, and those of galleries that were made with another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from app.concurrency.thread_pool import WorkPool
from app.errors import ModelMismatchError, ModelNotFoundError
from app.gallery.protocol import Galleries
from app.home.model_shelf import ModelShelf
from app.inference.protocols import Network, Queue
from app.recognition.recognizer import Recognizer
from model.embedder import DeviceError

T = TypeVar("T")

_TRIES = 3
_MOVING_SECONDS = 0.05


@dataclass(frozen=True)
class RunningModel:
    """A model in memory, with the thread that runs it and the use cases over it."""

    embedder: Network
    batcher: Queue
    recognizer: Recognizer

    @property
    def digest(self) -> str:
        """The model's digest."""
        return self.embedder.digest


class Models:
    """The running models: `primary` answers what concerns no gallery and makes new ones; others are loaded at need.

    `start` runs the model of a digest; it may raise ModelNotFoundError and DeviceError.
    """

    def __init__(
        self,
        primary: RunningModel,
        shelf: ModelShelf,
        index: Galleries,
        storing: WorkPool,
        start: Callable[[str], RunningModel],
    ) -> None:
        self.primary = primary
        self.shelf = shelf
        self._index = index
        self._storing = storing
        self._start = start
        self._running = {primary.digest: primary}
        self._lock = threading.Lock()

    async def answer(self, gallery: str, use: Callable[[Recognizer], Awaitable[T]]) -> tuple[T, str]:
        """`use` the recogniser of the gallery's model; returns its answer, and the model's name.

        A gallery that switches its model meanwhile is asked again, once its view is that of the new model.
        """
        for attempt in range(_TRIES):
            # at first the model that the gallery had when it was last looked at: whoever uses it looks again
            known = None if attempt else self._running.get(self._index.last_digest(gallery) or self.primary.digest)
            model = await self._storing.run(lambda: self.of(gallery)) if known is None else known
            try:
                return await use(model.recognizer), model.recognizer.model_id
            except ModelMismatchError:
                if attempt == _TRIES - 1:
                    raise
                while await self._storing.run(lambda: self._index.moving(gallery)):  # noqa: ASYNC110 - in a thread
                    await asyncio.sleep(_MOVING_SECONDS)
        raise AssertionError  # unreachable: the last attempt returns or raises

    def of(self, gallery: str) -> RunningModel:
        """The model of the gallery; that of the service where there is no gallery yet. Blocks.

        Raises ModelMismatchError when the gallery's model isn't there.
        """
        digest = self._index.digest(gallery)
        if digest is None:
            return self.primary
        try:
            return self.get(digest)
        except ModelNotFoundError as error:
            raise ModelMismatchError(gallery, digest, self.primary.digest) from error

    def get(self, digest: str) -> RunningModel:
        """The model, loaded at need. Blocks. Raises ModelNotFoundError."""
        running = self._running.get(digest)
        if running is not None:
            return running
        with self._lock:
            if digest not in self._running:
                try:
                    self._running[digest] = self._start(digest)
                except DeviceError as error:  # an int8 form on a GPU, or where OpenVINO is missing
                    raise ModelNotFoundError(digest, f"it can't be run here: {error}") from error
            return self._running[digest]

    def prepare(self, gallery_id: int, gallery: str, digest: str) -> None:
        """Make ready what a large gallery needs to be searched once it has the model. Blocks."""
        self._index.prepare(gallery_id, gallery, digest)

    def make_primary(self, digest: str) -> None:
        """From now on this model answers what concerns no gallery. Blocks. Raises ModelNotFoundError."""
        self.primary = self.get(digest)

    def close(self) -> None:
        """End all threads."""
        with self._lock:
            for model in self._running.values():
                model.batcher.close()
