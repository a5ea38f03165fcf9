"""The bounded thread pool."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.errors import OverloadedError
from app.workers import WorkPool


def test_results_come_in_order_and_the_first_failure_wins():
    def half(number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    async def main() -> None:
        pool = WorkPool("test", threads=3, max_pending=10)
        assert await pool.map(half, [2, 4, 6]) == [1, 2, 3]
        with pytest.raises(ValueError, match="3 is odd"):
            await pool.map(half, [2, 3, 5, 4])
        assert await pool.run(lambda: "x") == "x"
        pool.close()
        assert pool.pending == 0

    asyncio.run(main())


def test_too_much_work_is_refused_whole_and_room_comes_back():
    async def main() -> None:
        pool, go = WorkPool("test", threads=1, max_pending=3), threading.Event()
        running = asyncio.create_task(pool.run(lambda: go.wait(10)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await pool.map(lambda n: n, [1, 2, 3])
        assert pool.pending == 1
        fitting = asyncio.create_task(pool.map(lambda n: n, [1, 2]))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await pool.run(lambda: 1)
        go.set()
        assert await running is True
        assert await fitting == [1, 2]
        assert await pool.run(lambda: 1) == 1
        pool.close()

    asyncio.run(main())


def test_a_cancelled_caller_takes_its_waiting_work_along():
    done: list[int] = []

    async def main() -> None:
        pool, go = WorkPool("test", threads=1, max_pending=9), threading.Event()
        running = asyncio.create_task(pool.run(lambda: go.wait(10)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(pool.map(done.append, [1, 2, 3]))
        await asyncio.sleep(0)
        assert pool.pending == 4
        waiting.cancel()
        await asyncio.sleep(0)
        assert pool.pending == 1
        go.set()
        await running
        pool.close()

    asyncio.run(main())
    assert done == []
