"""The Python client against the real service; only its retries are tested with scripted answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageCms

from oneshot_client import (
    AsyncClient,
    BusyError,
    Client,
    ConflictError,
    MissingError,
    ProblemError,
    RejectedError,
    Retry,
    UnexpectedAnswerError,
    UnreachableError,
)
from oneshot_client.bulk import run_many, run_many_async
from oneshot_client.proxies import proxy_for
from testing.factories import draw_character, png_bytes
from testing.served import Running


@pytest.fixture
def client(served: Running) -> Iterator[Client]:
    with Client(served.url) as made:
        yield made


def test_enrol_classify_and_verify(client: Client, gallery: str, images: list[bytes]):
    made = client.enroll("alpha", images[0], gallery=gallery)
    assert made.created
    assert (made.class_.label, made.class_.gallery, made.class_.shots) == ("alpha", gallery, 1)
    found = client.classify(images[0], gallery=gallery, k=1, explain=True)
    assert found.label == "alpha"
    assert found.explanation is not None
    assert client.verify(images[0], label="alpha", gallery=gallery).verified
    assert client.verify(images[0], images[0], fmr=0.1).fmr == pytest.approx(0.1, abs=0.01)


def test_an_image_may_be_bytes_a_path_or_a_pillow_image(client: Client, tmp_path: Path):
    image = draw_character(3)
    file = tmp_path / "x.png"
    file.write_bytes(png_bytes(image))
    vectors = client.embed([file.read_bytes(), file, str(file), image]).embeddings
    assert len(vectors) == 4
    assert vectors[1:] == [pytest.approx(vectors[0], abs=1e-5)] * 3
    with pytest.raises(TypeError, match="not int"):
        client.embed([3])  # type: ignore[list-item]
    with pytest.raises(FileNotFoundError):
        client.classify(tmp_path / "nowhere.png")


PNG_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"]
OTHER_MODES = ["La", "PA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16L", "I;16N"]


@pytest.mark.parametrize("mode", PNG_MODES + OTHER_MODES)
def test_a_pillow_image_may_be_of_any_mode(client: Client, mode: str):
    drawn = draw_character(3)
    [plain] = client.embed([drawn]).embeddings
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(drawn.convert("RGB"), *profiles, outputMode="LAB")
    elif mode in {"La", "PA", "RGBa"}:
        image = drawn.convert({"La": "LA", "PA": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    elif mode.startswith("I;16"):
        order = ">" if mode == "I;16B" else "<"
        pixels = np.asarray(drawn.convert("L")).astype(f"{order}u2") * 257
        image = Image.frombytes(mode, drawn.size, pixels.astype(f"{order}u2").tobytes())
    else:
        image = drawn.convert("RGB" if mode in {"HSV", "YCbCr", "CMYK"} else "L").convert(mode)
    assert image is not None
    assert image.mode == mode
    [found] = client.embed([image]).embeddings
    assert np.dot(plain, found) / np.linalg.norm(plain) / np.linalg.norm(found) > 0.98


def test_a_pillow_image_is_turned_as_its_file_is(client: Client, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    draw_character(3).save(file, exif=exif, quality=95)
    with Image.open(file) as image:
        by_path, by_bytes, by_image = client.embed([file, file.read_bytes(), image]).embeddings
        image.load()
    assert by_path == pytest.approx(by_bytes, abs=1e-5)
    assert by_image == pytest.approx(by_path, abs=1e-5)


PROXIED = [
    ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "pip install 'httpx\\[socks\\]'"),
    ({"HTTP_PROXY": "gopher://127.0.0.1:9"}, "set NO_PROXY"),
    ({"http_proxy": "127.0.0.1:9"}, "no answer"),
    ({"http_proxy": "http://127.0.0.1:9", "no_proxy": "example.org,fe80::/10"}, "no answer"),
    ({"http_proxy": "http://127.0.0.1:9", "no_proxy": "[::1],127.0.0.0/8"}, None),
    ({"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "::1, 127.0.0.1"}, None),
    ({"NO_PROXY": "[::1]:8000,fe80::/10"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("variables", "why"), PROXIED)
def test_proxies_are_those_of_the_environment(served: Running, monkeypatch, variables: dict[str, str], why: str | None):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    async def ask() -> str:
        async with AsyncClient(served.url) as service:
            return (await service.model()).model

    if why is None:
        with Client(served.url) as client:
            assert client.model().model == asyncio.run(ask())
        return
    with pytest.raises(UnreachableError, match=why), Client(served.url) as client:
        client.model()
    with pytest.raises(UnreachableError, match=why):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("host", "exceptions", "excepted"),
    [("::1", "[::1]", True), ("::1", "::1", True), ("fe80::1", "fe80::/10", True), ("::2", "[::1]", False)],
)
def test_ipv6_addresses_may_be_excepted_from_the_proxy(monkeypatch, host: str, exceptions: str, excepted: bool):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", exceptions)
    assert (proxy_for(f"http://[{host}]:8000") is None) == excepted


def test_classes_and_galleries(client: Client, gallery: str, images: list[bytes]):
    for label in ("a/image", "ä b", "c?d#e%2F"):
        client.enroll(label, images[1], gallery=gallery)
    assert [item.label for item in client.classes(gallery)] == ["a/image", "c?d#e%2F", "ä b"]
    page = client.list_classes(gallery, limit=2)
    assert [item.label for item in client.list_classes(gallery, after=page.next).classes] == ["ä b"]
    assert [item.label for item in client.classes(gallery, search="A")] == ["a/image"]
    assert [item.label for item in client.list_classes(gallery, search="Ä B").classes] == ["ä b"]
    assert client.get_class("a/image", gallery).shots == 1
    assert client.class_image("c?d#e%2F", gallery) == images[1]
    assert client.rename_class("a/image", "b/ü", gallery).label == "b/ü"
    with pytest.raises(ConflictError):
        client.rename_class("b/ü", "ä b", gallery)
    client.rename_class("b/ü", "a/image", gallery)
    client.delete_class("a/image", gallery)
    with pytest.raises(MissingError) as caught:
        client.get_class("a/image", gallery)
    assert (caught.value.slug, caught.value.status) == ("class-not-found", 404)
    assert caught.value.request_id
    assert client.calibration(gallery).method
    with pytest.raises(RejectedError, match="classes"):
        client.calibrate(gallery)
    client.forget_calibration(gallery)
    assert gallery in {item.name for item in client.galleries()}
    client.delete_gallery(gallery)
    assert gallery not in {item.name for item in client.galleries()}
    assert client.model().dim == 16


def test_all_pages_are_fetched(client: Client, gallery: str, images: list[bytes], monkeypatch: pytest.MonkeyPatch):
    for index in range(5):
        client.enroll(f"c{index}", images[index], gallery=gallery)
    fetch = client.list_classes
    monkeypatch.setattr(client, "list_classes", lambda name, **more: fetch(name, **{**more, "limit": 2}))
    for search in (None, "c"):
        assert [item.label for item in client.classes(gallery, search=search)] == [f"c{index}" for index in range(5)]


def test_problems_become_exceptions(client: Client, gallery: str, images: list[bytes]):
    client.enroll("alpha", images[0], gallery=gallery)
    with pytest.raises(ConflictError, match="alpha"):
        client.enroll("alpha", images[0], gallery=gallery, on_conflict="fail")
    with pytest.raises(RejectedError) as caught:
        client.classify(b"no image", gallery=gallery)
    assert caught.value.slug == "unsupported-image"
    with pytest.raises(RejectedError) as caught:
        client.classify(images[0], gallery=gallery, k=0)
    assert caught.value.errors[0].loc == ["query", "k"]
    with pytest.raises(ValueError, match="either image2 or label"):
        client.verify(images[0])


def test_a_service_that_is_not_there(images: list[bytes]):
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(UnreachableError, match=r"no answer from .*:9"):
            client.classify(images[0])
        with pytest.raises(UnreachableError, match="not ready after 0 seconds"):
            client.wait_ready(0)


def test_a_service_that_is_ready(client: Client):
    client.wait_ready(0)


def test_many_are_enrolled_and_classified_in_order(client: Client, gallery: str, images: list[bytes]):
    items = [(f"c{index}", image) for index, image in enumerate(images)]
    outcomes = list(client.enroll_many([*items, ("bad", b"no image")], gallery=gallery, concurrency=3))
    assert [outcome.get().class_.label for outcome in outcomes[:-1]] == [label for label, _ in items]
    assert isinstance(outcomes[-1].error, RejectedError)
    with pytest.raises(RejectedError):
        outcomes[-1].get()
    found = client.classify_many(images, gallery=gallery, threshold=0, concurrency=3)
    assert [outcome.get().label for outcome in found] == [label for label, _ in items]


def test_a_batch_has_a_status_for_each_image(client: Client, gallery: str, images: list[bytes]):
    items = [("a", images[0]), ("ä/b", images[1]), ("bad", b"no image"), ("a", images[2])]
    batch = client.enroll_batch(items, gallery=gallery, on_conflict="add")
    assert [(item.label, item.status) for item in batch.items] == [("a", 201), ("ä/b", 201), ("bad", 415), ("a", 200)]
    assert (batch.enrolled, batch.failed, batch.items[2].problem) == (3, 1, "unsupported-image")
    assert client.get_class("a", gallery).shots == 2


def test_the_asynchronous_client_does_the_same(served: Running, gallery: str, images: list[bytes]):
    async def work() -> None:
        async with AsyncClient(served.url) as client:
            items = [(f"c{index}", image) for index, image in enumerate(images)]
            made = [outcome.get().created async for outcome in client.enroll_many(items, gallery=gallery)]
            assert made == [True] * len(images)
            assert [item.label async for item in client.classes(gallery)] == [label for label, _ in items]
            assert (await client.classify(images[2], gallery=gallery, threshold=0)).label == "c2"
            found = [outcome.get().label async for outcome in client.classify_many(images, gallery=gallery)]
            assert len(found) == len(images)
            assert (await client.verify(images[0], label="c0", gallery=gallery)).verified
            assert await client.class_image("c1", gallery) == images[1]
            with pytest.raises(MissingError):
                await client.delete_class("nobody", gallery)
            await client.delete_gallery(gallery)
            assert gallery not in {item.name for item in await client.galleries()}
            assert len((await client.embed(images[:2])).embeddings) == 2
            assert (await client.model()).device == "cpu"
            await client.wait_ready()
            assert (await client.enroll_batch(items, gallery=gallery)).enrolled == len(items)
            assert (await client.enroll("x", images[0], gallery=gallery)).created
            assert (await client.rename_class("x", "y", gallery)).label == "y"

    asyncio.run(work())


def test_an_overloaded_service_is_asked_again(serve: Callable[..., Any], images: list[bytes]):
    """A queue of one image refuses most of eight concurrent requests with Retry-After; no call fails."""
    with serve(max_queue=1, max_batch=1, max_images=1) as server, Client(server.url, retry=Retry(9)) as client:
        outcomes = list(client.enroll_many([(f"c{i}", images[i % 8]) for i in range(24)], concurrency=8))
        assert [outcome.get().class_.label for outcome in outcomes] == [f"c{i}" for i in range(24)]
        assert sum(1 for _ in client.classes()) == 24
        assert server.metric('oneshot_rejections_total{reason="overloaded"}') > 0


class Script:
    """Answers with the given status codes, then with a gallery list; records the time of each request."""

    def __init__(self, *statuses: int, **headers: str) -> None:
        self.statuses = list(statuses)
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self.asked: list[float] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(time.monotonic())
        self.requests.append(request)
        if not self.statuses:
            return httpx.Response(200, json={"galleries": []})
        status = self.statuses.pop(0)
        problem = {"type": "urn:oneshot:problem:x", "title": "t", "detail": "d", "instance": "/", "request_id": "r"}
        return httpx.Response(status, json={**problem, "status": status}, headers=self.headers)

    def client(self, retry: Retry | None = None, **more: Any) -> Client:
        return Client("http://test", retry=retry, transport=httpx.MockTransport(self), **more)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int):
    script = Script(status, Retry_After="1")
    with script.client() as client:
        assert client.galleries() == []
    assert 1 <= script.asked[1] - script.asked[0] < 2


def test_the_asynchronous_client_waits_too():
    async def work(script: Script) -> None:
        async with AsyncClient("http://test", retry=Retry(3, 0.01), transport=httpx.MockTransport(script)) as client:
            assert await client.galleries() == []

    script = Script(503, 503)
    asyncio.run(work(script))
    assert len(script.asked) == 3


def test_patience_ends():
    script = Script(*[503] * 9)
    with script.client(Retry(3, 0.01)) as client, pytest.raises(BusyError) as caught:
        client.galleries()
    assert len(script.asked) == 3
    assert caught.value.retry_after is None


def test_a_wait_that_is_too_long_is_an_error_at_once():
    script = Script(503, Retry_After="3600")
    with script.client() as client, pytest.raises(BusyError) as caught:
        client.galleries()
    assert len(script.asked) == 1
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 502, 504])
def test_other_problems_are_not_asked_again(status: int):
    script = Script(status)
    with script.client() as client, pytest.raises(ProblemError) as caught:
        client.galleries()
    assert (len(script.asked), caught.value.status, caught.value.slug) == (1, status, "x")


def test_retry_after_may_be_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    pause = Retry().pause(1, httpx.Response(503, headers={"retry-after": date}))
    assert pause is not None
    assert 3 < pause < 7
    soon = httpx.Response(503, headers={"retry-after": "soon"})
    assert Retry(first=1).pause(3, soon) == pytest.approx(4.5, abs=0.5)
    with pytest.raises(ValueError, match="at least 1"):
        Retry(0)


def test_the_key_goes_into_the_header_and_nowhere_else():
    script = Script()
    with script.client(api_key="secret") as client:
        client.galleries()
        assert "secret" not in repr(client) + str(vars(client)["url"])
    assert script.requests[0].headers["authorization"] == "Bearer secret"
    assert "secret" not in str(script.requests[0].url)


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(502, text="bad gateway")])
def test_what_is_no_answer_of_the_service_is_told(answer: httpx.Response):
    transport = httpx.MockTransport(lambda _request: answer)
    with Client("http://test", transport=transport) as client, pytest.raises(UnexpectedAnswerError, match="galleries"):
        client.galleries()


def test_no_more_run_at_once_than_allowed():
    running, most, lock = 0, 0, threading.Lock()

    def call(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return item

    assert [outcome.get() for outcome in run_many(call, range(40), 4)] == list(range(40))
    assert most <= 4


def test_items_are_taken_as_they_are_needed_and_an_early_end_stops_the_rest():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    outcomes = run_many(lambda item: item, items(), 4)
    assert next(outcomes).get() == 0
    outcomes.close()
    assert len(taken) <= 6

    async def first() -> int:
        async def call(item: int) -> int:
            await asyncio.sleep(0)
            return item

        many = run_many_async(call, items(), 4)
        async for outcome in many:
            await many.aclose()
            return outcome.get()
        raise AssertionError

    taken.clear()
    assert asyncio.run(first()) == 0
    assert len(taken) <= 6


def test_it_needs_neither_torch_nor_the_server():
    heavy = ("torch", "faiss", "fastapi", "sqlalchemy", "numpy")
    code = f"import json, sys, oneshot_client; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
