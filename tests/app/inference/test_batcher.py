"""The queue in front of the network: shared forward passes, and a result or an exception for every waiter."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from app.errors import InferenceError, NotReadyError, OverloadedError
from app.inference.batcher import Batcher
from app.telemetry.metrics import Metrics
from model.distances import Vectors
from model.preprocess import Prepared

POISON = -1.0


def image(value: float) -> Prepared:
    return np.full((1, 2, 2), value, dtype=np.float32)


class Network:
    """A forward pass that identifies images by value, blocks on demand, and fails on POISON."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.running = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.error: type[BaseException] = RuntimeError

    def __call__(self, batch: Prepared) -> Vectors:
        values = batch[:, 0, 0, 0].tolist()
        self.batches.append(values)
        self.running.set()
        assert self.go.wait(10)
        if POISON in values:
            raise self.error("choked on the secret")
        return batch.reshape(len(batch), -1)[:, :3] * 10


@contextmanager
def batcher(network: Callable[[Prepared], Vectors], **options: Any) -> Iterator[Batcher]:
    made = Batcher(network, **options)
    made.start()
    try:
        yield made
    finally:
        made.close(5)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.001)


async def busy(made: Batcher, network: Network) -> asyncio.Task[Vectors]:
    """Keep the worker busy with one image until `network.go` is set."""
    network.go.clear()
    network.running.clear()
    task = asyncio.create_task(made.embed([image(0)]))
    await until(network.running.is_set)
    return task


def test_an_idle_worker_waits_for_nobody():
    network = Network()

    async def main() -> None:
        with batcher(network) as made:
            result = await made.embed([image(7)])
            assert result.tolist() == [[70, 70, 70]]

    asyncio.run(main())
    assert network.batches == [[7]]


def test_what_waits_shares_one_pass_and_each_gets_its_own():
    network = Network()

    async def main() -> None:
        with batcher(network, max_batch=64) as made:
            first = await busy(made, network)
            waiting = [asyncio.create_task(made.embed([image(n)])) for n in range(1, 21)]
            await until(lambda: made.depth == 20)
            network.go.set()
            results = await asyncio.gather(first, *waiting)
            assert [result[0, 0] for result in results] == [10 * n for n in range(21)]

    asyncio.run(main())
    assert network.batches == [[0], list(range(1, 21))]


def test_batches_stay_below_their_maximum_and_split_large_requests():
    network = Network()

    async def main() -> None:
        with batcher(network, max_batch=4) as made:
            first = await busy(made, network)
            large = asyncio.create_task(made.embed([image(n) for n in range(1, 7)]))
            await asyncio.sleep(0)
            small = asyncio.create_task(made.embed([image(9)]))
            await until(lambda: made.depth == 7)
            network.go.set()
            await first
            assert (await large)[:, 0].tolist() == [10, 20, 30, 40, 50, 60]
            assert (await small)[:, 0].tolist() == [90]

    asyncio.run(main())
    assert network.batches == [[0], [1, 2, 3, 4], [5, 6, 9]]


def test_a_failing_pass_reaches_every_waiter_and_the_next_pass_is_well():
    network = Network()

    async def main() -> None:
        with batcher(network, max_batch=8) as made:
            first = await busy(made, network)
            waiting = [asyncio.create_task(made.embed([image(n)])) for n in (1, POISON, 2)]
            await until(lambda: made.depth == 3)
            network.go.set()
            await first
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [InferenceError] * 3
            assert len({id(result) for result in results}) == 3
            assert made.ready
            assert (await made.embed([image(3)]))[0, 0] == 30

    asyncio.run(main())


def test_a_request_that_failed_in_one_batch_is_not_computed_further():
    network = Network()

    async def main() -> None:
        with batcher(network, max_batch=2) as made:
            first = await busy(made, network)
            large = asyncio.create_task(made.embed([image(n) for n in (POISON, 1, 2, 3)]))
            await until(lambda: made.depth == 4)
            network.go.set()
            await first
            with pytest.raises(InferenceError):
                await large
            assert (await made.embed([image(5)]))[0, 0] == 50
            assert made.depth == 0

    asyncio.run(main())
    assert network.batches == [[0], [POISON, 1], [5]]


def test_an_output_of_the_wrong_shape_is_a_failure_and_not_a_hang():
    async def main() -> None:
        with batcher(lambda batch: batch[:0, 0, 0]) as made, pytest.raises(InferenceError):
            await made.embed([image(1)])

    asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_takes_all_or_nothing():
    network = Network()

    async def main() -> None:
        with batcher(network, max_batch=4, max_queue=4) as made:
            first = await busy(made, network)
            waiting = asyncio.create_task(made.embed([image(1), image(2)]))
            await until(lambda: made.depth == 2)
            with pytest.raises(OverloadedError) as caught:
                await made.embed([image(n) for n in (3, 4, 5)])
            assert caught.value.headers == {"Retry-After": "1"}
            assert made.depth == 2
            fitting = asyncio.create_task(made.embed([image(6), image(7)]))
            await until(lambda: made.depth == 4)
            network.go.set()
            await asyncio.gather(first, waiting, fitting)

    asyncio.run(main())
    assert network.batches == [[0], [1, 2, 6, 7]]


def test_what_is_still_to_be_prepared_counts_as_waiting():
    async def main() -> None:
        with batcher(Network(), max_batch=2, max_queue=4) as made:
            with made.expect(3), made.expect(3):  # four waiting, and two being embedded
                with pytest.raises(OverloadedError), made.expect(1):
                    pass
                with pytest.raises(OverloadedError):
                    made.check_room(1)
            made.check_room(4)

    asyncio.run(main())


def test_cancelled_waiters_leave_the_queue():
    network = Network()

    async def main() -> None:
        with batcher(network, max_queue=64) as made:
            first = await busy(made, network)
            waiting = [asyncio.create_task(made.embed([image(n)])) for n in (1, 2, 3)]
            await until(lambda: made.depth == 3)
            waiting[1].cancel()
            await until(lambda: made.depth == 2)
            network.go.set()
            results = await asyncio.gather(first, *waiting, return_exceptions=True)
            assert isinstance(results[2], asyncio.CancelledError)

    asyncio.run(main())
    assert network.batches == [[0], [1, 3]]


def test_closing_serves_what_waits_and_refuses_what_comes():
    network = Network()

    async def main() -> None:
        made = Batcher(network, max_batch=1)
        made.start()
        first = await busy(made, network)
        waiting = [asyncio.create_task(made.embed([image(n)])) for n in (1, 2)]
        await until(lambda: made.depth == 2)
        closing = asyncio.create_task(asyncio.to_thread(made.close, 10))
        await until(lambda: not made.ready)
        with pytest.raises(NotReadyError):
            await made.embed([image(3)])
        network.go.set()
        await asyncio.gather(first, closing, *waiting)
        made.close()

    asyncio.run(main())
    assert network.batches == [[0], [1], [2]]


def test_closing_fails_what_it_cannot_serve_in_time():
    network = Network()

    async def main() -> None:
        made = Batcher(network, max_batch=1)
        made.start()
        first = await busy(made, network)
        waiting = asyncio.create_task(made.embed([image(1)]))
        await until(lambda: made.depth == 1)
        await asyncio.to_thread(made.close, 0.05)
        with pytest.raises(NotReadyError):
            await waiting
        network.go.set()
        assert (await first)[0, 0] == 0

    asyncio.run(main())
    assert network.batches == [[0]]


def test_a_dead_worker_fails_its_waiters_and_says_so():
    network = Network()
    network.error = SystemExit

    async def main() -> None:
        with batcher(network, max_batch=1) as made:
            first = await busy(made, network)
            waiting = [asyncio.create_task(made.embed([image(n)])) for n in (POISON, 1)]
            await until(lambda: made.depth == 2)
            network.go.set()
            await first
            kinds = [type(result) for result in await asyncio.gather(*waiting, return_exceptions=True)]
            assert kinds == [InferenceError, NotReadyError]
            await until(lambda: not made.ready)
            assert "dead" in str(made.not_ready_because)
            with pytest.raises(NotReadyError, match="dead"):
                await made.embed([image(2)])
            assert made.depth == 0

    asyncio.run(main())


def test_it_is_ready_once_warm_and_what_came_before_waits():
    network = Network()
    warm = threading.Event()

    def warm_up() -> None:
        assert warm.wait(10)

    async def main() -> None:
        made = Batcher(network, warm_up=warm_up)
        made.start()
        assert "warming up" in str(made.not_ready_because)
        waiting = asyncio.create_task(made.embed([image(1)]))
        await until(lambda: made.depth == 1)
        assert network.batches == []
        warm.set()
        assert (await waiting)[0, 0] == 10
        assert made.ready
        made.close()

    asyncio.run(main())


def test_a_warm_up_that_fails_leaves_it_dead():
    def warm_up() -> None:
        raise RuntimeError("no memory on the device")

    async def main() -> None:
        made = Batcher(Network(), warm_up=warm_up)
        made.start()
        await until(lambda: "dead" in str(made.not_ready_because))
        with pytest.raises(NotReadyError):
            await made.embed([image(1)])
        made.close()

    asyncio.run(main())


def test_a_waiter_whose_loop_is_closed_harms_nobody():
    network = Network()
    with batcher(network, max_batch=1) as made:

        async def leave() -> None:
            await busy(made, network)

        asyncio.run(leave())  # the loop is closed with the task cancelled while the pass runs
        network.go.set()
        assert asyncio.run(made.embed([image(4)]))[0, 0] == 40


def test_batches_are_counted():
    network, metrics = Network(), Metrics()

    async def main() -> None:
        made = Batcher(network, metrics=metrics)
        made.start()
        first = await busy(made, network)
        waiting = [asyncio.create_task(made.embed([image(n)])) for n in range(5)]
        await until(lambda: made.depth == 5)
        assert metrics.registry.get_sample_value("oneshot_queue_depth_images") == 5
        network.go.set()
        await asyncio.gather(first, *waiting)
        made.close()

    asyncio.run(main())
    assert metrics.registry.get_sample_value("oneshot_batch_size_images_count") == 2
    assert metrics.registry.get_sample_value("oneshot_batch_size_images_sum") == 6
    assert metrics.registry.get_sample_value("oneshot_inference_seconds_count") == 2
    assert metrics.registry.get_sample_value("oneshot_queue_wait_seconds_count") == 6


def test_the_loop_has_its_turns_between_the_results_of_a_large_batch():
    network = Network()

    async def main() -> None:
        with batcher(network) as made:
            occupied = await busy(made, network)
            turn, told = 0, []

            async def wait(number: int) -> None:
                [vector] = await made.embed([image(number)])
                told.append((turn, number, vector[0]))

            waiting = [asyncio.create_task(wait(number)) for number in range(30)]
            await until(lambda: made.depth == len(waiting))
            network.go.set()
            while len(told) < len(waiting):
                turn += 1
                await asyncio.sleep(0)
            await occupied
            assert [(number, vector) for _, number, vector in told] == [(number, 10 * number) for number in range(30)]
            assert max(Counter(turn for turn, _, _ in told).values()) <= 8

    asyncio.run(main())
    assert len(network.batches) == 2
