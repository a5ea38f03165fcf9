"""Shares forward passes between concurrent requests.

One worker thread owns the network. It takes all waiting images, up to `max_batch`, and never waits for more: under
load, the next batch fills while one runs. Every caller gets its result or an exception.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from opentelemetry.context import Context

from app.concurrency.queue_limit import Line
from app.errors import InferenceError, NotReadyError, OneshotError, OverloadedError
from app.telemetry import tracing
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Metrics
from model.distances import Vectors
from model.preprocess import Prepared

log = get_logger(__name__)

#: Callers that get their results in one turn of the loop.
_A_TURN = 8


@dataclass(eq=False, slots=True)
class _Job:
    """The images of one request; they may be split over several batches."""

    images: Sequence[Prepared]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Vectors]
    enqueued: float
    trace: Context
    enqueued_at: int
    taken: int = 0
    outputs: list[Vectors] = field(default_factory=list)
    finished: int = 0
    failed: bool = False

    @property
    def over(self) -> bool:
        """Whether no caller waits for it any more."""
        return self.failed or self.future.done()

    @property
    def left(self) -> int:
        """Images that no batch has taken yet."""
        return len(self.images) - self.taken

    def take(self, room: int) -> Sequence[Prepared]:
        part = self.images[self.taken : self.taken + room]
        self.taken += len(part)
        return part

    def add(self, output: Vectors) -> bool:
        """Add the vectors of some of the images. Return whether all are done."""
        self.outputs.append(output)
        self.finished += len(output)
        return self.finished == len(self.images)

    def settle(self) -> None:
        """Deliver the result; in the loop's thread."""
        if not self.future.done():  # the caller may have been cancelled
            self.future.set_result(self.outputs[0] if len(self.outputs) == 1 else np.concatenate(self.outputs))

    def fail(self, error: OneshotError) -> None:
        self.failed = True

        def tell() -> None:
            if not self.future.done():
                self.future.set_exception(error)

        _call_soon(self.loop, tell)


def _call_soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(act)
    except RuntimeError:  # the loop is closed, so no caller waits
        log.debug("waiter_gone")


def _settle(jobs: Sequence[_Job]) -> None:
    """Deliver all results, waking each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, those in by_loop.items():
        _call_soon(loop, partial(_settle_each, loop, those))


def _settle_each(loop: asyncio.AbstractEventLoop, jobs: Sequence[_Job]) -> None:
    # callers take the loop's time once they have their results; between parts of a large batch it serves connections
    for job in jobs[:_A_TURN]:
        job.settle()
    if rest := jobs[_A_TURN:]:
        loop.call_soon(_settle_each, loop, rest)


class Batcher(Line):
    """A bounded queue in front of `forward`, which maps (B, C, S, S) to (B, D), served by one thread.

    The thread first calls `warm_up`; images that come earlier wait in the queue. `ready` is true from then until
    `close`, or until the thread dies. After that, every call raises NotReadyError. A dying thread calls `on_death` once
    all waiting calls have failed.
    """

    def __init__(
        self,
        forward: Callable[[Prepared], Vectors],
        *,
        max_batch: int = 64,
        max_queue: int = 256,
        warm_up: Callable[[], None] | None = None,
        metrics: Metrics | None = None,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(max_queue, free=max_batch)
        self._forward = forward
        self._warm_up = warm_up
        self._max_batch = max_batch
        self._metrics = metrics or Metrics()
        self._on_death = on_death
        self._jobs: deque[_Job] = deque()
        self._closing = False
        self._abandon = False
        self._warm = False
        self._dead = False
        self._state = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the network is warm and the worker thread accepts images."""
        return self.not_ready_because is None

    @property
    def not_ready_because(self) -> str | None:
        """Why `ready` is false, or None."""
        if self._closing:
            return "The service is shutting down."
        if self._dead:
            return "The worker thread is dead; the service must be restarted."
        return None if self._warm else "The network is warming up."

    async def embed(self, images: Sequence[Prepared]) -> Vectors:
        """Embeddings (n, D) of n prepared images (C, S, S).

        Raises OverloadedError when the queue has no room for all of them, NotReadyError when it is closed or its
        thread is dead, and InferenceError when the forward pass failed. Cancelling the caller removes its images.
        """
        loop = asyncio.get_running_loop()
        job = _Job(images, loop, loop.create_future(), time.perf_counter(), tracing.here(), time.time_ns())
        self._put(job)
        try:
            return await job.future
        finally:
            self._withdraw(job)

    def _put(self, job: _Job) -> None:
        with self._state:
            if self._closing or self._dead:
                raise NotReadyError(self.not_ready_because or "The service is not ready.")
            self._join(len(job.images))
            self._jobs.append(job)
        # deferred: requests that the loop already has at hand come first, and share one batch
        job.loop.call_soon(self._wake)

    def _wake(self) -> None:
        with self._state:
            self._state.notify()

    def _withdraw(self, job: _Job) -> None:
        if not job.left:
            return
        with self._state:
            if job in self._jobs:
                self._jobs.remove(job)
                self._leave(job.left)

    def _join(self, images: int) -> None:
        super()._join(images)
        self._metrics.queue_depth.inc(images)  # summed over all models

    def _leave(self, images: int) -> None:
        super()._leave(images)
        self._metrics.queue_depth.dec(images)

    def close(self, drain_seconds: float = 10.0) -> None:
        """Accept no more, serve what waits for at most `drain_seconds`, fail the rest. Blocks; may be repeated."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        if self._thread.is_alive():
            self._thread.join(drain_seconds)
        self._abandon = True
        self._fail_waiting()

    # -- the worker thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            if self._warm_up is not None:
                self._warm_up()
            self._warm = True
            while batch := self._take():
                self._serve(batch)
        except BaseException:  # no caller would see it: log it, and let `ready` report that the thread is dead
            log.exception("worker_died")
            self._end()
            self._on_death()
        else:
            self._end()

    def _end(self) -> None:
        with self._state:  # set before the queue is emptied, so that nothing can be queued after that
            self._dead = True
        self._fail_waiting()

    def _take(self) -> list[tuple[_Job, Sequence[Prepared]]]:
        """Wait for the next batch; empty when the queue is closed and drained."""
        with self._state:
            while True:
                batch = self._collect()
                if batch or self._closing:
                    return batch
                self._state.wait()

    def _collect(self) -> list[tuple[_Job, Sequence[Prepared]]]:
        batch: list[tuple[_Job, Sequence[Prepared]]] = []
        room = self._max_batch
        while self._jobs and room and not self._abandon:
            job = self._jobs[0]
            if job.over:
                self._leave(job.left)
                self._jobs.popleft()
                continue
            if job.taken == 0:
                self._metrics.queue_wait_seconds.observe(time.perf_counter() - job.enqueued)
                tracing.record("queue", job.trace, job.enqueued_at, time.time_ns(), images=len(job.images))
            part = job.take(room)
            self._leave(len(part))
            room -= len(part)
            batch.append((job, part))
            if not job.left:
                self._jobs.popleft()
        return batch

    def _serve(self, batch: list[tuple[_Job, Sequence[Prepared]]]) -> None:
        try:
            inputs = np.stack([image for _, part in batch for image in part])
            began, began_at = time.perf_counter(), time.time_ns()
            outputs = self._forward(inputs)
            self._metrics.inference_seconds.observe(time.perf_counter() - began)
            for job, _ in batch:
                tracing.record("forward", job.trace, began_at, time.time_ns(), batch_images=len(inputs))
            self._metrics.batch_size.observe(len(inputs))
            if outputs.ndim != 2 or len(outputs) != len(inputs):
                raise ValueError(f"the network made {outputs.shape} from {inputs.shape}")
        except BaseException as error:
            log.exception("forward_failed", images=sum(len(part) for _, part in batch))
            for job, _ in batch:
                job.fail(_failure(error))
            if not isinstance(error, Exception):
                raise
            return
        ends = np.cumsum([len(part) for _, part in batch]).tolist()
        _settle([job for (job, part), end in zip(batch, ends, strict=True) if job.add(outputs[end - len(part) : end])])

    def _fail_waiting(self) -> None:
        with self._state:
            waiting = list(self._jobs)
            self._jobs.clear()
            self._leave(self._depth)
        for job in waiting:
            job.fail(NotReadyError("The service stopped before this image's turn."))


def _failure(cause: BaseException) -> OneshotError:
    if isinstance(cause, MemoryError):
        return OverloadedError("There is no memory for a forward pass now; try again in a moment.")
    # one object per caller: an exception raised in several tasks would mix up their tracebacks
    error = InferenceError(f"the forward pass failed: {cause!r}")
    error.__cause__ = cause
    return error
