"""What keys may ask, counted here or by several processes together: never more, and not less either."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.errors import RateLimitedError, StoreUnavailableError
from app.keys import Scope, make_key
from app.quotas import Counting, Quotas, SharedStorage, _SharedFile
from tests.app.conftest import assert_problem


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


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """The file as another process has it that does not let go."""
    with closing(sqlite3.connect(folder / "quotas.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def longest_turn(stop: asyncio.Event) -> float:
    """The longest time for which nothing else got a turn of the event loop, as CPU time would not tell."""
    longest = 0.0
    while not stop.is_set():
        began = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_a_file_that_another_process_keeps_is_waited_for_once_and_not_by_the_event_loop(tmp_path: Path):
    async def main() -> None:
        counting, stop = Counting(tmp_path), asyncio.Event()
        await counting.begin("k", "99/second", 9)
        watching = asyncio.create_task(longest_turn(stop))
        with kept(tmp_path):
            began = time.monotonic()
            counting.end("k")
            outcomes = await asyncio.gather(
                *(counting.begin("k", "99/second", 9) for _ in range(10)), return_exceptions=True
            )
            waited = time.monotonic() - began
        stop.set()
        assert all(isinstance(each, StoreUnavailableError) for each in outcomes), outcomes
        assert 1.5 < waited < 10, "two seconds for all, not for each"
        assert await watching < 1.5
        for _ in range(9):  # the end that could not be written then is counted now, and no refused one is running
            await counting.begin("k", "99/second", 9)
        with pytest.raises(RateLimitedError, match="9 requests running"):
            await counting.begin("k", "99/second", 9)
        counting.close()

    asyncio.run(main())


def test_one_who_goes_while_he_waits_is_not_running(tmp_path: Path):
    async def main() -> None:
        counting = Counting(tmp_path)
        await counting.begin("k", "99/second", 1)
        counting.end("k")
        for _ in range(3):
            with kept(tmp_path):
                asking = asyncio.create_task(counting.begin("k", "99/second", 1))
                await asyncio.sleep(0.05)
                asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        await counting.begin("k", "99/second", 1)
        counting.close()

    asyncio.run(main())


def test_others_are_answered_while_requests_wait_to_be_counted(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.access.shared_folder", lambda: tmp_path)
    with serve(api_keys="on") as server:
        key, text = make_key("test", frozenset({Scope.READ}))
        server.service.store.keys.add(key)
        headers = {"X-API-Key": text}
        assert server.client.get("/classes", headers=headers).status_code == 200
        with kept(tmp_path), ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.get, f"{server.url}/classes", headers=headers, timeout=30)
            longest = 0.0
            while not asked.done():
                began = time.monotonic()
                assert server.client.get("/livez").status_code == 200
                longest = max(longest, time.monotonic() - began)
            assert_problem(asked.result(), 503, "store-unavailable")
        assert longest < 1.5
        assert server.client.get("/classes", headers=headers).status_code == 200
