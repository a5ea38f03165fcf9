"""The client retries an enrolment after a lost answer, and it is done once."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from oneshot_client import AsyncClient, Client, FaultError, MissingError, RejectedError, Retry, UnreachableError
from testing.served import Running

QUICK = Retry(3, 0.01)

Failure = type[httpx.TransportError] | int


class Losing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Forwards requests to a real service, and drops the first answers."""

    def __init__(self, *failures: Failure, slug: str = "write-in-doubt") -> None:
        self._failures = list(failures)
        self._slug = slug
        self._real = httpx.HTTPTransport()
        self.keys: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        response = self._real.handle_request(request)
        response.read()
        if not self._failures:
            return response
        failure = self._failures.pop(0)
        if not isinstance(failure, int):
            raise failure("gone")
        problem = {"type": f"urn:oneshot:problem:{self._slug}", "title": "t", "detail": "d", "instance": "/"}
        return httpx.Response(failure, json={**problem, "status": failure, "request_id": "r"})

    def close(self) -> None:
        self._real.close()

    async def aclose(self) -> None:
        self.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        answer = await asyncio.to_thread(self.handle_request, request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def zipped(image: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", image)
    return file.getvalue()


WAYS: dict[str, Callable[[Any, bytes, str], Any]] = {
    "enroll": lambda client, image, gallery: client.enroll("a", image, gallery=gallery, on_conflict="add"),
    "batch": lambda client, image, gallery: client.enroll_batch([("a", image)], gallery=gallery, on_conflict="add"),
    "zip": lambda client, image, gallery: client.enroll_zip(zipped(image), gallery=gallery, on_conflict="add"),
}
LOST: list[Failure] = [httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, 502, 504]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("failure", LOST)
def test_an_enrolment_whose_answer_was_lost_is_done_once(
    served: Running, gallery: str, images: list[bytes], way: str, failure: Failure
):
    losing = Losing(failure, failure)
    with Client(served.url, retry=QUICK, transport=losing) as client:
        WAYS[way](client, images[0], gallery)
        assert client.get_class("a", gallery).shots == 1
        WAYS[way](client, images[0], gallery)
        assert client.get_class("a", gallery).shots == 2, "another call is another enrolment"
    keys = [key for key in losing.keys if key is not None]
    assert len(keys) == 4
    assert len(set(keys)) == 2


@pytest.mark.parametrize("failure", LOST)
def test_the_asynchronous_client_does_so_too(served: Running, gallery: str, images: list[bytes], failure: Failure):
    async def work() -> int:
        async with AsyncClient(served.url, retry=QUICK, transport=Losing(failure, failure)) as client:
            await client.enroll("a", images[0], gallery=gallery, on_conflict="add")
            return (await client.get_class("a", gallery)).shots

    assert asyncio.run(work()) == 1


def test_its_patience_ends(served: Running, gallery: str, images: list[bytes]):
    for failure, error in ((httpx.ReadError, UnreachableError), (504, FaultError)):
        losing = Losing(*[failure] * 9)
        with Client(served.url, retry=QUICK, transport=losing) as client, pytest.raises(error):
            client.enroll("a", images[0], gallery=gallery)
        assert len(losing.keys) == 3


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.ConnectTimeout])
def test_a_service_that_is_not_there_or_is_silent_is_not_asked_again(
    served: Running, gallery: str, images: list[bytes], failure: Failure
):
    losing = Losing(*[failure] * 9)
    with Client(served.url, retry=QUICK, transport=losing) as client, pytest.raises(UnreachableError):
        client.enroll("a", images[0], gallery=gallery)
    assert len(losing.keys) == 1


def test_a_time_that_was_over_before_anything_was_done_is_told_at_once(
    served: Running, gallery: str, images: list[bytes]
):
    losing = Losing(504, slug="deadline-exceeded")
    with Client(served.url, retry=QUICK, transport=losing) as client, pytest.raises(FaultError):
        client.enroll("a", images[0], gallery=gallery)


def test_what_has_no_key_is_not_asked_again(served: Running, gallery: str):
    losing = Losing(httpx.ReadError)
    with Client(served.url, retry=QUICK, transport=losing) as client, pytest.raises(UnreachableError):
        client.galleries()
    with Client(served.url, retry=QUICK, transport=Losing(502)) as client, pytest.raises(FaultError):
        client.galleries()
    assert losing.keys == [None]


def test_a_key_of_ones_own_makes_a_call_repeatable(served: Running, gallery: str, images: list[bytes]):
    for _ in range(2):
        with Client(served.url) as client:
            done = client.enroll("a", images[0], gallery=gallery, on_conflict="add", idempotency_key=gallery)
            assert (done.created, done.class_.shots) == (True, 1)
    with Client(served.url) as client, pytest.raises(RejectedError) as caught:
        client.enroll("a", images[1], gallery=gallery, on_conflict="add", idempotency_key=gallery)
    assert caught.value.slug == "idempotency-key-reused"
    with Client(served.url) as client, pytest.raises(MissingError):
        client.get_class("b", gallery)
