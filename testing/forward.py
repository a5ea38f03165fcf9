"""A forward pass that a test can hold up, break or replace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from model.distances import Vectors
from model.embedder import Embedder
from model.preprocess import Prepared

Embed: TypeAlias = Callable[[Prepared], Vectors]


class Forward:
    """Stands in front of the networks' forward pass and does nothing, until `instead` is set.

    Then `instead(embed, batch)` is called for each `embed(batch)`.
    """

    def __init__(self) -> None:
        self.instead: Callable[[Embed, Prepared], Vectors] | None = None

    def around(self, method: Callable[[Embedder, Prepared], Vectors]) -> Callable[[Embedder, Prepared], Vectors]:
        """Return what takes the place of `Embedder.embed`."""

        def embed(embedder: Embedder, batch: Prepared) -> Vectors:
            real = partial(method, embedder)
            return real(batch) if self.instead is None else self.instead(real, batch)

        return embed
