"""The limit on waiting images, for the queue in this process and that of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import OverloadedError


class Line:
    """The count of images in a bounded queue.

    `free` of the expected images don't count: a batch that is being embedded does not wait. `check_room` and `expect`
    are for one event loop. `_join` and `_leave` need a lock when several threads call them.
    """

    def __init__(self, max_queue: int, *, free: int = 0) -> None:
        self._max_queue = max_queue
        self._free = free
        self._depth = 0
        self._expected = 0

    @property
    def max_queue(self) -> int:
        """Most images that may wait."""
        return self._max_queue

    @property
    def depth(self) -> int:
        """Images that wait."""
        return self._depth

    def check_room(self, images: int) -> None:
        """Raise OverloadedError when this many images would be refused now."""
        if max(self._depth, self._expected - self._free) + images > self._max_queue:
            raise _overloaded(max(self._depth, self._expected))

    @contextmanager
    def expect(self, images: int) -> Iterator[None]:
        """Count images as waiting while they are prepared or embedded.

        Otherwise a busy event loop would accept everything: what waits for the loop itself is in no queue. Raises
        OverloadedError as `check_room` does.
        """
        self.check_room(images)
        self._expected += images
        try:
            yield
        finally:
            self._expected -= images

    def _join(self, images: int) -> None:
        """Add images to the queue. Raises OverloadedError when there is no room for all of them."""
        if self._depth + images > self._max_queue:
            raise _overloaded(self._depth)
        self._depth += images

    def _leave(self, images: int) -> None:
        """Remove images from the queue."""
        self._depth -= images


def _overloaded(waiting: int) -> OverloadedError:
    return OverloadedError(f"{waiting} images are waiting; try again in a moment.")
