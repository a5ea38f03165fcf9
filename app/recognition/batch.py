"""What the use cases ask of a batch of labelled images that is still coming in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeAlias

from app.errors import OneshotError
from app.inference.images import Upload

#: A label and its image, or why it is refused.
Item: TypeAlias = tuple[str, Upload] | OneshotError


class Batch(Protocol):
    """A batch on its way into the store: its images come a few at a time, and those that are refused are let go."""

    @property
    def items(self) -> Sequence[Item]:
        """Those that came so far, in order."""

    @property
    def labels(self) -> Sequence[str | None]:
        """The labels of `items`, also of those that were refused since; None where there was none to be used."""

    @property
    def keep_all(self) -> bool:
        """Whether the images of one label belong together, and none replaces another."""

    def parts(self, most: int) -> AsyncGenerator[list[tuple[int, Upload]], None]:
        """Images with their places, up to `most` at once; a second time, those that are still held."""

    def refuse(self, place: int, error: OneshotError) -> None:
        """Let an image go that can't be enrolled."""
