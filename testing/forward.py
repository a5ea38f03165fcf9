"""A forward pass that a test can delay, break or replace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from model.distances import Vectors
from model.embedder import Embedder
from model.preprocess import Prepared

Embed: TypeAlias = Callable[[Prepared], Vectors]


class Forward:
    """Wraps the networks' forward pass; by default it only passes calls on.

    Once `instead` is set, `instead(embed, batch)` is called for each `embed(batch)`.
    """

    def __init__(self) -> None:
        self.instead: Callable[[Embed, Prepared], Vectors] | None = None

    def around(self, method: Callable[[Embedder, Prepared], Vectors]) -> Callable[[Embedder, Prepared], Vectors]:
        """Return the replacement for `Embedder.embed`."""

        def embed(embedder: Embedder, batch: Prepared) -> Vectors:
            real = partial(method, embedder)
            return real(batch) if self.instead is None else self.instead(real, batch)

        return embed
