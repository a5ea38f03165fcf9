"""What keys may ask, counted here or by several processes together: never more, and not less either."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.errors import RateLimitedError, StoreUnavailableError
from app.quotas import Quotas, SharedStorage, _SharedFile


def allowed(quotas: Quotas, rate: str, tries: int, key: str = "k") -> int:
    """How many of so many tries, one after the other, are let through."""
    count = 0
    for _ in range(tries):
        try:
            quotas.begin(key, rate, 1)
        except RateLimitedError:
            continue
        else:
            quotas.end(key)
            count += 1
    return count


def alone(_folder: Path) -> tuple[Quotas, Quotas]:
    one = Quotas()
    return one, one


def shared(folder: Path) -> tuple[Quotas, Quotas]:
    return Quotas(folder), Quotas(folder)


@pytest.mark.parametrize("make", [alone, shared])
def test_a_rate_holds_over_all(make: Callable[[Path], tuple[Quotas, Quotas]], tmp_path: Path):
    one, other = make(tmp_path)
    assert allowed(one, "10/hour", 7) + allowed(other, "10/hour", 7) == 10
    assert allowed(other, "10/hour", 3, key="another") == 3
    assert allowed(one, "20/day", 3) == 3, "another rate is another count"


@pytest.mark.parametrize("make", [alone, shared])
def test_concurrency_holds_over_all(make: Callable[[Path], tuple[Quotas, Quotas]], tmp_path: Path):
    one, other = make(tmp_path)
    one.begin("k", "9/second", 2)
    other.begin("k", "9/second", 2)
    for quotas in (one, other):
        with pytest.raises(RateLimitedError, match="2 requests running"):
            quotas.begin("k", "9/second", 2)
    other.begin("another", "9/second", 2)
    other.end("k")
    one.begin("k", "9/second", 2)


@pytest.mark.parametrize("make", [alone, shared])
def test_one_that_is_refused_for_its_rate_is_not_running(make: Callable[[Path], tuple[Quotas, Quotas]], tmp_path: Path):
    one, other = make(tmp_path)
    assert allowed(one, "1/hour", 5) == 1
    other.begin("k", "9/hour", 1)


def test_a_window_slides_as_the_library_says(tmp_path: Path):
    """The same hits at the same moments as in the library's own storage, over the edges of several windows."""
    file, item = _SharedFile(tmp_path / "x"), parse("5/second")
    limiters = [SlidingWindowCounterRateLimiter(storage) for storage in (SharedStorage(file), MemoryStorage())]
    outcomes: list[list[bool]] = [[], []]
    end = time.time() + 3.2
    while time.time() < end:
        for limiter, outcome in zip(limiters, outcomes, strict=True):
            outcome.append(limiter.hit(item, "k"))
        stats = [limiter.get_window_stats(item, "k") for limiter in limiters]
        assert abs(stats[0].remaining - stats[1].remaining) <= 1
        time.sleep(0.05)
    ours, theirs = (sum(outcome) for outcome in outcomes)
    assert abs(ours - theirs) <= 2
    assert 10 <= ours <= 21


def test_counts_end_and_are_forgotten(tmp_path: Path):
    storage = SharedStorage(_SharedFile(tmp_path / "x"))
    assert [storage.incr("a", 1), storage.incr("a", 1), storage.incr("b", 60, 5)] == [1, 2, 5]
    assert (storage.get("a"), storage.get("b"), storage.get("c")) == (2, 5, 0)
    assert time.time() < storage.get_expiry("a") < time.time() + 1
    time.sleep(1.05)
    assert storage.get("a") == 0
    storage.incr("c", 60)
    assert storage.reset() == 2, "a was thrown away when c came"
    storage.incr("b", 60)
    storage.clear("b")
    assert storage.get("b") == 0
    assert storage.check()


def test_a_race_lets_through_exactly_the_limit(tmp_path: Path):
    def hit(_turn: int) -> int:
        limiter = SlidingWindowCounterRateLimiter(SharedStorage(_SharedFile(tmp_path / "x")))
        return sum(limiter.hit(parse("60/day"), "k") for _ in range(30))

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(hit, range(6))) == 60


DYING = """
import sys
from pathlib import Path
from app.quotas import Quotas
quotas = Quotas(Path(sys.argv[1]))
for _ in range(3):
    quotas.begin("k", "9/second", 3)
"""


def test_what_a_process_that_died_was_doing_is_forgotten(tmp_path: Path):
    subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=True, timeout=60)
    quotas = Quotas(tmp_path)
    for _ in range(3):
        quotas.begin("k", "9/second", 3)
    with pytest.raises(RateLimitedError):
        quotas.begin("k", "9/second", 3)


def test_a_count_that_cannot_be_written_is_told(tmp_path: Path):
    file = _SharedFile(tmp_path / "x")
    storage = SharedStorage(file)
    file._connection.close()
    with pytest.raises(StoreUnavailableError, match="counted"):
        storage.incr("a", 1)
    assert not storage.check()
