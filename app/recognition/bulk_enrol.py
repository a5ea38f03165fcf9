"""Enrols many images: through the queues in parts, and into the store in one commit, with a result for each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from app.concurrency.thread_pool import WorkPool
from app.errors import ClassExistsError, InferenceError, OneshotError, OverloadedError
from app.inference.images import EmbeddedImage, PreparedImage, Upload
from app.inference.protocols import Queue
from app.recognition.receipts import Result, read_one, write_one, write_rows
from app.store.base import EnrollOutcome, NewSupport, Once, OnConflict, Store
from app.telemetry.logs import get_logger
from model.distances import Vectors

log = get_logger(__name__)
T = TypeVar("T")
#: A large request goes through the queues in parts: images in each, and parts at once.
_PART = 64
_PARTS_AT_ONCE = 2
_PART_BYTES = 65_536
_PAUSE_SECONDS = 0.01


Outcome: TypeAlias = EmbeddedImage | OneshotError


def in_parts(uploads: Sequence[Upload]) -> Iterator[Sequence[Upload]]:
    """Split the images into parts for one thread each. Small ones share a part, because a thread costs more."""
    start, size = 0, 0
    for place, upload in enumerate(uploads):
        if place > start and (size + len(upload.data) > _PART_BYTES or place - start == _PART):
            yield uploads[start:place]
            start, size = place, 0
        size += len(upload.data)
    yield uploads[start:]


class ManyImages:
    """Embeds any number of images, in parts that leave room in the queues for other requests.

    When the queues are full it waits, where other requests are refused. The request's deadline limits the wait.
    """

    def __init__(self, prepare: Callable[[Upload], PreparedImage], batcher: Queue, decoding: WorkPool) -> None:
        self._prepare = prepare
        self._batcher = batcher
        self._decoding = decoding
        self.part = min(_PART, batcher.max_queue)
        """Most images that go through the queue together."""

    async def embed(self, uploads: Sequence[Upload]) -> list[Outcome]:
        """Return the vector (D,) or an error for each image, in order."""
        parts = [uploads[start : start + self.part] for start in range(0, len(uploads), self.part)]
        turns = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def in_turn(part: Sequence[Upload]) -> list[Outcome]:
            async with turns:
                return await self._embed_part(part)

        return [each for part in await asyncio.gather(*map(in_turn, parts)) for each in part]

    async def embed_parts(
        self, batch: AsyncIterator[list[tuple[int, Upload]]]
    ) -> AsyncGenerator[Iterator[tuple[int, Upload, Outcome]], None]:
        """Embed images that arrive in parts, with their places, in order. The next part is prepared meanwhile."""
        running: deque[tuple[list[tuple[int, Upload]], asyncio.Task[list[Outcome]]]] = deque()

        async def oldest() -> Iterator[tuple[int, Upload, Outcome]]:
            part, task = running[0]
            embedded = await task
            running.popleft()
            return ((place, upload, each) for (place, upload), each in zip(part, embedded, strict=True))

        try:
            async for part in batch:
                running.append((part, asyncio.create_task(self._embed_part([upload for _, upload in part]))))
                if len(running) == _PARTS_AT_ONCE:
                    yield await oldest()
            while running:
                yield await oldest()
        finally:  # the caller has stopped early: no one waits for the rest
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    async def _embed_part(self, uploads: Sequence[Upload]) -> list[Outcome]:
        [prepared] = await _patiently(lambda: self._decoding.map(self._prepare_each, [uploads]))
        good = [each for each in prepared if isinstance(each, PreparedImage)]
        vectors: Iterable[Vectors] = ()
        if good:
            vectors = await _patiently(lambda: self._batcher.embed([each.pixels for each in good]))
        embedded = map(_embedded, good, vectors)
        return [next(embedded) if isinstance(each, PreparedImage) else each for each in prepared]

    def _prepare_each(self, uploads: Sequence[Upload]) -> list[PreparedImage | OneshotError]:
        prepared: list[PreparedImage | OneshotError] = []
        for upload in uploads:
            try:
                prepared.append(self._prepare(upload))
            except OneshotError as error:
                prepared.append(error)
            except Exception:  # of any kind: it concerns this image only
                log.exception("image_failed", field=upload.field)
                prepared.append(OneshotError(f"{upload.field}: the server could not work on it, and its log says why"))
        return prepared


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await work()
        except OverloadedError:
            await asyncio.sleep(_PAUSE_SECONDS)


def _embedded(image: PreparedImage, vector: Vectors) -> Outcome:
    if not np.isfinite(vector).all():
        return InferenceError("the network made a vector that is not finite")
    return EmbeddedImage(vector, image.media_type)


def enroll_one(
    store: Store, gallery: str, support: NewSupport, on_conflict: OnConflict, once: Once | None
) -> EnrollOutcome:
    """Enrol one image. With `once`, a repeated request is not done again."""
    if once is not None:
        kept = store.enroll_once(once, gallery, [support], on_conflict, lambda outcomes: write_one(outcomes[0]))
        return read_one(kept, gallery, support.label)
    [outcome] = store.enroll(gallery, [support], on_conflict)
    return outcome


def enroll_each(
    store: Store,
    gallery: str,
    items: Sequence[NewSupport | OneshotError],
    on_conflict: OnConflict,
    *,
    keep_all: bool = False,
) -> list[Result]:
    """Enrol all items that are not errors, in one commit. Return an outcome or an error for each, in order.

    With FAIL, an item whose label is already enrolled, or came earlier in the batch, is refused on its own. With
    `keep_all`, several items of one label belong together.
    """

    def commit(good: Mapping[int, NewSupport], refused: Mapping[int, Result]) -> Mapping[int, Result]:
        outcomes = store.enroll(gallery, list(good.values()), on_conflict, keep_all)
        return {**refused, **dict(zip(good, outcomes, strict=True))}

    results = _enroll_good(items, on_conflict, keep_all, commit)
    return [results[place] for place in range(len(items))]


def enroll_each_once(
    store: Store,
    once: Once,
    gallery: str,
    items: Sequence[NewSupport | OneshotError],
    on_conflict: OnConflict,
    *,
    keep_all: bool = False,
) -> str:
    """`enroll_each` for a request that may be repeated. Return the receipt of this or the first time.

    A request that enrols nothing leaves no receipt in the store.
    """

    def commit(good: Mapping[int, NewSupport], refused: Mapping[int, Result]) -> str:
        if not good:
            return write_rows(refused)

        def answer(outcomes: Sequence[EnrollOutcome]) -> str:
            return write_rows({**refused, **dict(zip(good, outcomes, strict=True))})

        return store.enroll_once(once, gallery, list(good.values()), on_conflict, answer, keep_all=keep_all)

    return _enroll_good(items, on_conflict, keep_all, commit)


def _enroll_good(
    items: Sequence[NewSupport | OneshotError],
    on_conflict: OnConflict,
    keep_all: bool,
    commit: Callable[[Mapping[int, NewSupport], Mapping[int, Result]], T],
) -> T:
    """Return the result of `commit`, called with the items to enrol and the results of the refused ones, by place."""
    results: dict[int, Result] = {place: each for place, each in enumerate(items) if isinstance(each, OneshotError)}
    good = {place: each for place, each in enumerate(items) if not isinstance(each, OneshotError)}
    if on_conflict is OnConflict.FAIL and not keep_all:
        first = {item.label: place for place, item in reversed(good.items())}
        _refuse(good, results, {place for place, item in good.items() if first[item.label] != place})
    while True:
        try:
            return commit(good, results)
        except ClassExistsError as error:
            taken = set(error.labels)
            _refuse(good, results, {place for place, item in good.items() if item.label in taken})


def _refuse(good: dict[int, NewSupport], results: dict[int, Result], places: set[int]) -> None:
    for place in places:
        results[place] = ClassExistsError([good.pop(place).label])
