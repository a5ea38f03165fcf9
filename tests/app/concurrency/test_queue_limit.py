"""The limit of a queue: waiting, expected and refused work."""

from __future__ import annotations

import pytest

from app.concurrency.queue_limit import Line
from app.errors import OverloadedError


class Counted(Line):
    """A `Line` that the test joins and leaves."""

    def join(self, images: int) -> None:
        self._join(images)

    def leave(self, images: int) -> None:
        self._leave(images)


def test_what_waits_is_bounded_and_all_or_nothing():
    line = Counted(4)
    line.join(3)
    line.check_room(1)
    with pytest.raises(OverloadedError, match=r"^3 images are waiting"):
        line.check_room(2)
    with pytest.raises(OverloadedError, match=r"^3 images are waiting"):
        line.join(2)
    assert line.depth == 3
    line.leave(2)
    line.join(3)
    assert line.depth == line.max_queue == 4


@pytest.mark.parametrize("free", [0, 2])
def test_what_is_expected_counts_as_waiting_but_for_what_is_free(free: int):
    line = Counted(4, free=free)
    with line.expect(4), line.expect(free):
        with pytest.raises(OverloadedError, match=f"^{4 + free} images are waiting"):
            line.check_room(1)
        with pytest.raises(OverloadedError), line.expect(1):
            pass
        line.join(4)  # work that is expected is always let in
        line.leave(4)
    line.check_room(4)


def test_what_waits_is_not_counted_a_second_time_as_expected():
    line = Counted(4)
    with line.expect(3):
        line.join(3)
        line.check_room(1)


def test_an_expectation_that_fails_is_taken_back():
    line = Counted(4)
    with pytest.raises(ZeroDivisionError), line.expect(4):
        raise ZeroDivisionError
    line.check_room(4)
