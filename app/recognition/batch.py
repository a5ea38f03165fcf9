"""Interface of a batch of labelled images that is still being received."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeAlias

from app.errors import OneshotError
from app.inference.images import Upload

#: A label and its image, or the error that refuses it.
Item: TypeAlias = tuple[str, Upload] | OneshotError


class Batch(Protocol):
    """A batch on its way into the store. Its images arrive a few at a time, and refused ones are released."""

    @property
    def items(self) -> Sequence[Item]:
        """The items received so far, in order."""

    @property
    def labels(self) -> Sequence[str | None]:
        """The labels of `items`, including items refused since; None for an item without a usable label."""

    @property
    def keep_all(self) -> bool:
        """Whether images of one label belong together; else a later one may replace an earlier one."""

    def parts(self, most: int) -> AsyncGenerator[list[tuple[int, Upload]], None]:
        """Yield images with their places, up to `most` at once. A repeated call first yields those still held."""

    def refuse(self, place: int, error: OneshotError) -> None:
        """Release an image that can't be enrolled."""
