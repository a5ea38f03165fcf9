"""Over HTTP: concurrent requests share forward passes, and the failure of one does not affect the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import numpy as np

from model.distances import Vectors
from model.preprocess import Prepared
from testing.forward import Embed, Forward
from testing.served import Running, assert_problem


@contextmanager
def held(server: Running, forward: Forward) -> Iterator[Callable[[], None]]:
    """Block the network until the yielded function is called."""
    wait_until(lambda: server.client.get("/readyz").status_code == 200)
    go = threading.Event()

    def wait(embed: Embed, batch: Prepared) -> Vectors:
        assert go.wait(20)
        return embed(batch)

    forward.instead = wait
    try:
        yield go.set
    finally:
        go.set()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_requests_in_flight_share_passes_and_a_bad_image_harms_none(serve, images: list[bytes], forward: Forward):
    with serve() as server, ThreadPoolExecutor(24) as threads:
        alone = [server.client.post("/embed", files={"image": ("x", i)}).json()["embeddings"][0] for i in images]
        before = server.metric("oneshot_batch_size_images_count")
        with held(server, forward) as release:
            first = threads.submit(server.classify, images[0])
            wait_until(lambda: server.metric("oneshot_queue_wait_seconds_count") > before)
            good = [
                threads.submit(server.client.post, "/embed", files={"image": ("x", image)})
                for image in images
                for _ in range(2)
            ]
            bad = [threads.submit(server.classify, data) for data in (images[0][:60], b"", b"GIF89a", b"nonsense")]
            assert [response.result().status_code for response in bad] == [422, 422, 415, 415]
            wait_until(lambda: server.service.batcher.depth == 16)
            release()
            assert first.result().status_code == 200
            together = [response.result().json()["embeddings"][0] for response in good]
        assert server.metric("oneshot_batch_size_images_count") == before + 2
        assert np.allclose(together, np.repeat(alone, 2, axis=0), atol=1e-5)


def test_a_full_queue_answers_503_with_retry_after(serve, images: list[bytes], forward: Forward):
    with serve(max_queue=2, max_batch=2, max_images=2) as server, ThreadPoolExecutor(8) as threads:
        assert server.classify(images[0]).status_code == 200
        with held(server, forward) as release:
            running = threads.submit(server.classify, images[0])
            wait_until(lambda: server.metric("oneshot_queue_wait_seconds_count") == 2)
            waiting = [threads.submit(server.classify, images[0]) for _ in range(2)]
            wait_until(lambda: server.service.batcher.depth == 2)
            refused = server.classify(images[0])
            assert_problem(refused, 503, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            assert server.client.get("/readyz").status_code == 200
            release()
            assert [each.result().status_code for each in (running, *waiting)] == [200] * 3
        assert server.classify(images[0]).status_code == 200
        assert server.metric('oneshot_rejections_total{reason="overloaded"}') == 1


def test_a_client_that_gives_up_leaves_the_queue(serve, images: list[bytes], forward: Forward):
    with serve(request_timeout=0.5) as server, ThreadPoolExecutor(8) as threads:
        assert server.classify(images[0]).status_code == 200
        with held(server, forward) as release:
            answers = [threads.submit(server.classify, images[0]) for _ in range(3)]
            for answer in answers:
                assert_problem(answer.result(), 504, "deadline-exceeded")
            assert server.service.batcher.depth == 0
            release()
        assert server.classify(images[0]).status_code == 200


def test_a_failing_forward_pass_is_a_500_without_its_text_and_the_next_is_well(
    serve, images: list[bytes], forward: Forward
):
    def broken(_embed: object, _batch: Prepared) -> Vectors:
        raise RuntimeError("secret path /etc/model")

    with serve() as server:
        server.enroll("alpha", images[0])
        forward.instead = broken
        for response in (server.classify(images[0]), server.enroll("beta", images[1])):
            assert_problem(response, 500, "inference-failed")
            assert "secret" not in response.text
        forward.instead = None
        assert server.classify(images[0]).json()["gallery_size"] == 1


def test_vectors_that_are_not_finite_are_refused_and_not_enrolled(serve, images: list[bytes], forward: Forward):
    def nowhere(_embed: object, batch: Prepared) -> Vectors:
        return np.full((len(batch), 16), np.nan, dtype=np.float32)

    with serve() as server:
        forward.instead = nowhere
        assert_problem(server.enroll("alpha", images[0]), 500, "inference-failed")
        assert server.client.get("/galleries").json() == {"galleries": []}


def test_a_dead_worker_makes_readyz_503(serve, images: list[bytes], forward: Forward):
    def deadly(_embed: object, _batch: Prepared) -> Vectors:
        raise SystemExit

    with serve() as server:
        wait_until(lambda: server.client.get("/readyz").status_code == 200)
        forward.instead = deadly
        assert_problem(server.classify(images[0]), 500, "inference-failed")
        wait_until(lambda: server.client.get("/readyz").status_code == 503)
        assert "dead" in assert_problem(server.client.get("/readyz"), 503, "not-ready")["detail"]
        assert_problem(server.classify(images[0]), 503, "not-ready")
        assert server.client.get("/livez").status_code == 200


def test_stopping_answers_what_is_in_flight(serve, images: list[bytes], forward: Forward):
    with ThreadPoolExecutor(4) as threads:
        with ExitStack() as after, serve() as server:
            release = after.enter_context(held(server, forward))
            url = f"{server.url}/classify"
            flying = [threads.submit(httpx.post, url, files={"image": ("x", images[0])})]
            wait_until(lambda: server.metric("oneshot_queue_wait_seconds_count") == 1)
            flying += [threads.submit(httpx.post, url, files={"image": ("x", images[0])}) for _ in range(2)]
            wait_until(lambda: server.service.batcher.depth == 2)
            threading.Timer(0.3, release).start()  # after the server was asked to stop
        assert [answer.result().status_code for answer in flying] == [200] * 3
