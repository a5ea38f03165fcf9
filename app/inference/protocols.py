"""Interfaces of a running model, in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from PIL import Image

from model.distances import Vectors
from model.manifest import Manifest, Metric
from model.preprocess import Prepared


class Network(Protocol):
    """A model's input and output (see `model.embedder.Embedder`)."""

    manifest: Manifest
    digest: str
    model_id: str

    @property
    def device(self) -> str:
        """Where it runs."""

    @property
    def engine(self) -> str:
        """What runs it."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""

    def prepare(self, image: Image.Image) -> Prepared:
        """Turn a decoded image into the network's input, shape (channels, size, size)."""

    def shows_something(self, image: Image.Image, prepared: Prepared) -> bool:
        """Whether there is anything to see in the image; `prepared` was made from it."""


class Queue(Protocol):
    """A bounded queue in front of the network (see `app.inference.batcher.Batcher`)."""

    @property
    def max_queue(self) -> int:
        """Most images that may wait."""

    @property
    def depth(self) -> int:
        """Images that wait."""

    @property
    def ready(self) -> bool:
        """Whether it takes images."""

    @property
    def not_ready_because(self) -> str | None:
        """Why `ready` is false, or None."""

    def check_room(self, images: int) -> None:
        """Raise OverloadedError when this many images would be refused now."""

    def expect(self, images: int) -> AbstractContextManager[None]:
        """Count images that are still to be prepared as waiting. Raises OverloadedError."""

    async def embed(self, images: Sequence[Prepared]) -> Vectors:
        """Embeddings (n, D) of n prepared images (C, S, S). Raises UnavailableError, InferenceError."""

    def close(self) -> None:
        """Accept no more images; answer those that wait, or fail them. Blocks; may be repeated."""
