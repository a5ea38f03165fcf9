"""Quotas of keys, counted in one process or shared by several: never more than allowed, and never less."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import TypeAlias

import httpx
import pytest

from app.access.quotas import Counting, Quotas, SharedQuotas
from app.api_key import Scope, make_key
from app.errors import RateLimitedError, StoreUnavailableError
from app.rates import parse_rate
from testing.served import assert_problem

Either: TypeAlias = Quotas | SharedQuotas


def allowed(quotas: Either, rate: str, tries: int, key: str = "k") -> int:
    """How many of `tries` sequential requests are allowed."""
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


def alone(_folder: Path) -> tuple[Either, Either]:
    one = Quotas()
    return one, one


def shared(folder: Path) -> tuple[Either, Either]:
    return SharedQuotas(folder), SharedQuotas(folder)


@pytest.mark.parametrize("make", [alone, shared])
def test_a_rate_holds_over_all(make: Callable[[Path], tuple[Either, Either]], tmp_path: Path):
    one, other = make(tmp_path)
    assert allowed(one, "10/hour", 7) + allowed(other, "10/hour", 7) == 10
    assert allowed(other, "10/hour", 3, key="another") == 3
    assert allowed(one, "20/day", 3) == 3, "another rate is another count"


@pytest.mark.parametrize("make", [alone, shared])
def test_concurrency_holds_over_all(make: Callable[[Path], tuple[Either, Either]], tmp_path: Path):
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
def test_one_that_is_refused_for_its_rate_is_not_running(make: Callable[[Path], tuple[Either, Either]], tmp_path: Path):
    one, other = make(tmp_path)
    assert allowed(one, "1/hour", 5) == 1
    other.begin("k", "9/hour", 1)


@pytest.mark.parametrize("text", ["7/second", "60/minute", "1/minute", "999999999/second"])
def test_a_rate_is_a_bucket_of_tokens(text: str):
    """The outcomes match an independent, exact implementation: a token bucket that refills continuously."""
    rate, chance, count = parse_rate(text), Random(1), int(text.split("/", maxsplit=1)[0])
    tokens, used_until, now = Fraction(count), 0, 0
    outcomes = []
    for _ in range(500):
        passed = chance.choice([0, 1, rate.gap, chance.randrange(3 * rate.period // min(count, 50))])
        now += passed
        tokens = min(Fraction(count), tokens + Fraction(passed * count, rate.period))
        used_until, wait = rate.use(used_until, now)
        # the gap is rounded down to whole nanoseconds, hence the tolerance
        assert wait or tokens + Fraction(count * 500, rate.period) >= 1
        assert not wait or tokens < 1
        tokens -= not wait
        outcomes.append(not wait)
    assert any(outcomes)
    assert all(outcomes) == (count > 500)


@pytest.mark.parametrize("make", [lambda _folder, clock: Quotas(clock), SharedQuotas])
def test_who_waits_as_long_as_told_may_ask_again(make: Callable[[Path, Callable[[], int]], Either], tmp_path: Path):
    now = 10**18
    quotas = make(tmp_path, lambda: now)
    assert allowed(quotas, "6/minute", 10) == 6
    now += 2_500_000_000
    with pytest.raises(RateLimitedError, match="6 times a minute") as refused:
        quotas.begin("k", "6/minute", 1)
    assert refused.value.retry_after == 8, "7.5 seconds, in whole ones"
    now += 7_499_999_999
    assert allowed(quotas, "6/minute", 1) == 0
    now += 1
    assert allowed(quotas, "6/minute", 10) == 1


def test_a_race_lets_through_exactly_the_limit(tmp_path: Path):
    def hit(_turn: int) -> int:
        with closing(SharedQuotas(tmp_path)) as quotas:
            count = 0
            for _ in range(30):
                with suppress(RateLimitedError):
                    quotas.begin("k", "60/day", 1000)
                    count += 1
            return count

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(hit, range(6))) == 60


DYING = """
import sys
from pathlib import Path
from app.access.quotas import SharedQuotas
quotas = SharedQuotas(Path(sys.argv[1]))
for _ in range(3):
    quotas.begin("k", "9/second", 3)
for _ in range(2):
    quotas.begin("another", "2/day", 3)
"""


def test_what_a_process_that_died_was_doing_is_forgotten(tmp_path: Path):
    subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=True, timeout=60)
    quotas = SharedQuotas(tmp_path)
    for _ in range(3):
        quotas.begin("k", "9/second", 3)
    with pytest.raises(RateLimitedError, match="3 requests running"):
        quotas.begin("k", "9/second", 3)
    with pytest.raises(RateLimitedError, match="2 times a day") as refused:
        quotas.begin("another", "2/day", 3)
    assert 43_000 < (refused.value.retry_after or 0) <= 43_200, "both processes have one clock"


def test_a_count_that_cannot_be_written_is_told(tmp_path: Path):
    quotas = SharedQuotas(tmp_path)
    quotas.close()
    with pytest.raises(StoreUnavailableError, match="counted"):
        quotas.begin("k", "9/second", 1)


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Hold the file's write lock, as a stuck process would."""
    with closing(sqlite3.connect(folder / "quotas.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def longest_turn(stop: asyncio.Event) -> float:
    """The longest blockage of the event loop, in wall-clock seconds, which CPU time would not show."""
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
        for _ in range(9):  # the end that could not be written is counted now, and no refused request counts as running
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
    monkeypatch.setattr("app.access.gate.shared_folder", lambda: tmp_path)
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
