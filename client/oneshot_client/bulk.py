"""Runs many calls with limited concurrency, and yields one outcome per item in the order of the items."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from oneshot_client.errors import ClientError

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")

#: Errors of a single item: the others continue.
_OF_ONE_ITEM = (ClientError, OSError, ValueError)


@dataclass(frozen=True)
class Outcome(Generic[ItemT, AnswerT]):
    """The result of one item: either `answer` or `error` is set."""

    item: ItemT
    answer: AnswerT | None = None
    error: Exception | None = None

    def get(self) -> AnswerT:
        """The answer. Raises the item's error if there is none."""
        if self.error is not None:
            raise self.error
        assert self.answer is not None  # noqa: S101 - one of the two is there
        return self.answer


def run_many(
    call: Callable[[ItemT], AnswerT], items: Iterable[ItemT], concurrency: int
) -> Generator[Outcome[ItemT, AnswerT], None, None]:
    """Call with each item, in up to `concurrency` threads. Items are taken from the iterable as needed."""

    def attempt(item: ItemT) -> Outcome[ItemT, AnswerT]:
        try:
            return Outcome(item, call(item))
        except _OF_ONE_ITEM as error:
            return Outcome(item, error=error)

    waiting: deque[Future[Outcome[ItemT, AnswerT]]] = deque()
    with ThreadPoolExecutor(_checked(concurrency), thread_name_prefix="oneshot-client") as pool:
        try:
            for item in items:
                if len(waiting) >= concurrency:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(attempt, item))
            while waiting:
                yield waiting.popleft().result()
        finally:  # the caller stopped early, or an item raised: don't start the rest
            for future in waiting:
                future.cancel()


async def run_many_async(
    call: Callable[[ItemT], Awaitable[AnswerT]], items: Iterable[ItemT], concurrency: int
) -> AsyncGenerator[Outcome[ItemT, AnswerT], None]:
    """`run_many` in tasks."""

    async def attempt(item: ItemT) -> Outcome[ItemT, AnswerT]:
        try:
            return Outcome(item, await call(item))
        except _OF_ONE_ITEM as error:
            return Outcome(item, error=error)

    waiting: deque[asyncio.Task[Outcome[ItemT, AnswerT]]] = deque()
    _checked(concurrency)
    try:
        for item in items:
            if len(waiting) >= concurrency:
                yield await waiting[0]
                waiting.popleft()
            waiting.append(asyncio.create_task(attempt(item)))
        while waiting:
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _checked(concurrency: int) -> int:
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    return concurrency
