"""The bounded thread pool."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.concurrency.thread_pool import WorkPool
from app.errors import OverloadedError, WriteInDoubtError


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


class Writing:
    """A pool of one thread with a write that runs until it is released."""

    def __init__(self) -> None:
        self.pool = WorkPool("test", threads=1, max_pending=9)
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self) -> str:
        self.begun.set()
        assert self.go.wait(10)
        return "written"

    async def begin(self) -> asyncio.Task[str]:
        task = asyncio.create_task(self.pool.write(self.write))
        assert await asyncio.to_thread(self.begun.wait, 10)
        return task


def test_a_write_that_has_begun_is_waited_for_and_its_end_is_the_answer():
    async def main() -> None:
        writing = Writing()
        task = await writing.begin()
        waiting = asyncio.create_task(writing.pool.write(lambda: pytest.fail("it was taken back")))
        await asyncio.sleep(0)
        task.cancel()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        asyncio.get_running_loop().call_later(0.05, writing.go.set)
        assert await task == "written"
        writing.pool.close()

    asyncio.run(main())


def test_a_write_that_ends_in_time_is_answered_also_after_a_deadline():
    async def main() -> None:
        writing = Writing()
        asyncio.get_running_loop().call_later(0.2, writing.go.set)
        async with asyncio.timeout(0.05) as deadline:
            assert await writing.pool.write(writing.write) == "written"
        assert deadline.expired()
        writing.pool.close()

    asyncio.run(main())


def test_a_write_that_does_not_end_is_in_doubt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.concurrency.thread_pool.LAST_SECONDS", 0.05)

    async def main() -> None:
        writing = Writing()
        task = await writing.begin()
        task.cancel()
        with pytest.raises(WriteInDoubtError):
            await task
        writing.go.set()
        writing.pool.close()

    asyncio.run(main())


def test_a_write_is_in_doubt_at_once_when_the_loop_ends():
    async def main() -> None:
        writing = Writing()
        task = await writing.begin()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(WriteInDoubtError):
            await asyncio.wait_for(task, 3)
        writing.go.set()
        writing.pool.close()

    asyncio.run(main())


def test_what_a_write_raises_is_raised():
    async def main() -> None:
        pool = WorkPool("test", threads=1, max_pending=9)
        with pytest.raises(ZeroDivisionError):
            await pool.write(lambda: 1 // 0)
        pool.close()
        assert pool.pending == 0

    asyncio.run(main())
