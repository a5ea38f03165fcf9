"""The running models: that of the service, and those of galleries that were made with another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import ModelMismatchError, ModelNotFoundError
from app.gallery.protocol import Galleries
from app.home.model_shelf import ModelShelf
from app.inference.protocols import Network, Queue
from app.recognition.recognizer import Recognizer
from model.embedder import DeviceError


@dataclass(frozen=True)
class RunningModel:
    """A model in memory, with the thread that runs it and its use cases."""

    embedder: Network
    batcher: Queue
    recognizer: Recognizer

    @property
    def digest(self) -> str:
        """The model's digest."""
        return self.embedder.digest


class Models:
    """The running models. `primary` serves requests without a gallery and new galleries; others are loaded on demand.

    `start` runs the model with the given digest; it may raise ModelNotFoundError and DeviceError.
    """

    def __init__(
        self,
        primary: RunningModel,
        shelf: ModelShelf,
        index: Galleries,
        start: Callable[[str], RunningModel],
    ) -> None:
        self.primary = primary
        self.shelf = shelf
        self._index = index
        self._start = start
        self._running = {primary.digest: primary}
        self._lock = threading.Lock()

    def last_seen(self, gallery: str) -> RunningModel | None:
        """The model that the gallery was last known to have. None if it isn't running."""
        return self._running.get(self._index.last_digest(gallery) or self.primary.digest)

    def of(self, gallery: str) -> RunningModel:
        """The model of the gallery, or that of the service if the gallery doesn't exist yet. Blocks.

        Raises ModelMismatchError when the gallery's model is not installed.
        """
        digest = self._index.digest(gallery)
        if digest is None:
            return self.primary
        try:
            return self.get(digest)
        except ModelNotFoundError as error:
            raise ModelMismatchError(gallery, digest, self.primary.digest) from error

    def get(self, digest: str) -> RunningModel:
        """The model, loaded if it isn't running. Blocks. Raises ModelNotFoundError."""
        running = self._running.get(digest)
        if running is not None:
            return running
        with self._lock:
            if digest not in self._running:
                try:
                    self._running[digest] = self._start(digest)
                except DeviceError as error:  # an int8 form on a GPU, or OpenVINO is missing
                    raise ModelNotFoundError(digest, f"it can't be run here: {error}") from error
            return self._running[digest]

    def prepare(self, gallery_id: int, gallery: str, digest: str) -> None:
        """Write the files that a large gallery needs for searches once it has the model. Blocks."""
        self._index.prepare(gallery_id, gallery, digest)

    def make_primary(self, digest: str) -> None:
        """Make this the model for requests without a gallery. Blocks. Raises ModelNotFoundError."""
        self.primary = self.get(digest)

    def close(self) -> None:
        """End all threads."""
        with self._lock:
            for model in self._running.values():
                model.batcher.close()
