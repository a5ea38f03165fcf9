"""How many images may wait, and how many do: the limit that a queue in this process and one of a cluster share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import OverloadedError


class Line:
    """A bounded line of images, of which this holds the count alone.

    Of images that are expected `free` cost nothing: a batch that is embedded does not wait. `check_room` and `expect`
    are for one event loop; who joins and leaves from several threads holds a lock.
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
        """Raise OverloadedError when so many images would be refused now."""
        if max(self._depth, self._expected - self._free) + images > self._max_queue:
            raise _overloaded(max(self._depth, self._expected))

    @contextmanager
    def expect(self, images: int) -> Iterator[None]:
        """Count images that are still to be prepared, or that are embedded, as if they waited.

        Else a busy event loop would take in whatever comes: what waits for the loop itself is in no queue. Raises
        OverloadedError as `check_room` does.
        """
        self.check_room(images)
        self._expected += images
        try:
            yield
        finally:
            self._expected -= images

    def _join(self, images: int) -> None:
        """Count images that wait from now on. Raises OverloadedError when there is no room for all of them."""
        if self._depth + images > self._max_queue:
            raise _overloaded(self._depth)
        self._depth += images

    def _leave(self, images: int) -> None:
        """Count images that wait no longer."""
        self._depth -= images


def _overloaded(waiting: int) -> OverloadedError:
    return OverloadedError(f"{waiting} images are waiting; try again in a moment.")
