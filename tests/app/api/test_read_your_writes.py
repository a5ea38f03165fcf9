"""Read your writes: a request that names a version sees that write through any server."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.api.application import create_app
from oneshot_client import AsyncClient, Client, MissingError
from oneshot_client.wire import IDEMPOTENCY_KEY, MIN_VERSION, VERSION
from testing.served import Running, assert_problem, make_settings, running

Nodes = tuple[Running, Running]

WRITES = {
    ("POST", "/enroll"),
    ("POST", "/enroll/batch"),
    ("PATCH", "/classes/{label}"),
    ("DELETE", "/classes/{label}"),
    ("DELETE", "/galleries/{name}"),
    ("POST", "/galleries/{name}/calibrate"),
    ("DELETE", "/galleries/{name}/calibration"),
}
VIEWED = {("POST", "/classify"), ("POST", "/verify"), ("GET", "/galleries/{name}/map")}


@pytest.fixture(params=["sqlite", "postgres"])
def nodes(request: pytest.FixtureRequest, artifact: Path, tmp_path: Path) -> Iterator[Nodes]:
    """Two servers on one store: in one data folder, or on one database with a folder each."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with ExitStack() as stack:
        homes = [tmp_path / ("home" if url is None else f"home{number}") for number in range(2)]
        first, second = (
            stack.enter_context(running(make_settings(model=artifact, home=home, store=url))) for home in homes
        )
        yield first, second


def at_least(version: str) -> dict[str, str]:
    return {MIN_VERSION: version}


def test_each_write_says_its_version_and_nothing_else_does(nodes: Nodes, images: list[bytes]):
    server, _ = nodes
    client = server.client
    answers = [
        server.enroll("a", images[0]),
        server.enroll("a", images[1], on_conflict="add"),
        client.post("/enroll/batch", files=[("image", ("b.png", images[2])), ("image", ("c.png", images[3]))]),
        client.patch("/classes/b", json={"label": "d"}),
        client.delete("/classes/c"),
        client.delete("/galleries/default/calibration"),
        client.delete("/galleries/default"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 204, 204, 204]
    versions = [int(answer.headers[VERSION]) for answer in answers]
    assert versions == sorted(set(versions)), "each is greater than the one before"
    assert versions[0] > 0
    quiet = [server.classify(images[0]), client.get("/galleries"), client.delete("/galleries/default")]
    assert [answer.status_code for answer in quiet] == [200, 200, 404]
    assert not any(VERSION in answer.headers or "Age" in answer.headers for answer in quiet)


def test_a_write_through_one_is_read_through_the_other(nodes: Nodes, images: list[bytes]):
    for number in range(20):
        writer, reader = nodes if number % 2 else nodes[::-1]
        version = writer.enroll(f"c{number}", images[number % 8]).headers[VERSION]
        answer = reader.client.post(
            "/classify", params={"k": 100}, files={"image": ("x", images[0])}, headers=at_least(version)
        )
        assert answer.json()["gallery_size"] == number + 1
        listed = reader.client.get("/classes", headers=at_least(version)).json()
        assert len(listed["classes"]) == number + 1
        drawn = reader.client.get("/galleries/default/map", headers=at_least(version)).json()
        assert drawn["gallery_size"] == number + 1
    version = nodes[0].client.delete("/classes/c7").headers[VERSION]
    same = nodes[1].client.post(
        "/verify", data={"label": "c7"}, files={"image1": ("x", images[7])}, headers=at_least(version)
    )
    assert_problem(same, 404, "class-not-found")


def test_a_notice_that_is_lost_loses_nothing(nodes: Nodes, images: list[bytes], monkeypatch: pytest.MonkeyPatch):
    writer, reader = nodes
    writer.enroll("before", images[0])
    monkeypatch.setattr("app.store.notices.Listener.notice", lambda *_: None)
    version = writer.enroll("a", images[1]).headers[VERSION]
    asked = reader.client.post("/classify", files={"image": ("x", images[1])}, headers=at_least(version))
    assert asked.json()["gallery_size"] == 2
    writer.enroll("b", images[2])
    give_up = time.monotonic() + 10
    while reader.classify(images[2]).json()["gallery_size"] < 3:  # without a version: eventually
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.parametrize(("method", "path"), [("POST", "/classify"), ("GET", "/classes"), ("GET", "/galleries")])
def test_a_version_that_is_not_there_is_waited_for_briefly(nodes: Nodes, images: list[bytes], method: str, path: str):
    server, _ = nodes
    version = int(server.enroll("a", images[0]).headers[VERSION])
    files = {"image": ("x", images[0])} if method == "POST" else None
    began = time.monotonic()
    answer = server.client.request(method, path, files=files, headers=at_least(str(version + 1)))
    assert_problem(answer, 422, "invalid-request")
    assert "nothing was written with" in answer.text
    assert 0.2 < time.monotonic() - began < 5
    server.enroll("b", images[1])
    assert server.client.request(method, path, files=files, headers=at_least(str(version + 1))).status_code == 200


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", str(2**63), "9" * 4301, "²"])
def test_what_is_no_version_is_refused(served: Running, images: list[bytes], text: str):
    for method, path in (("POST", "/classify"), ("GET", "/classes"), ("GET", "/model")):
        files = {"image": ("x", images[0])} if method == "POST" else None
        headers = [(MIN_VERSION.encode(), text.encode("utf-8"))]
        answer = served.client.request(method, path, files=files, headers=headers)
        problem = assert_problem(answer, 422, "invalid-request")
        assert problem["errors"][0]["loc"] == ["header", MIN_VERSION]


def test_with_keys_only_who_may_enter_is_waited_for(serve):
    with serve(api_keys="on") as server:
        answer = server.client.get("/classes", headers=at_least("99"))
        assert_problem(answer, 401, "unauthorized")


def test_the_schema_says_where_versions_are_told_and_asked_for():
    paths = create_app(make_settings()).openapi()["paths"]
    told = {
        (name, method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        for name in answer.get("headers", {})
    }
    expected = {(VERSION, *write) for write in WRITES} | {("Age", *request) for request in VIEWED}
    assert told == expected
    for path, operations in paths.items():
        for operation in operations.values():
            names = {each["name"] for each in operation.get("parameters", []) if each["in"] == "header"} - {
                IDEMPOTENCY_KEY
            }
            assert names == (set() if path in {"/livez", "/readyz"} else {MIN_VERSION}), path


class Alternating(httpx.BaseTransport):
    """A round-robin load balancer."""

    def __init__(self, *urls: str) -> None:
        self._turns = itertools.cycle([httpx.URL(url) for url in urls])
        self._http = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = next(self._turns)
        request.url = request.url.copy_with(host=url.host, port=url.port)
        return self._http.handle_request(request)

    def close(self) -> None:
        self._http.close()


def test_the_client_reads_its_own_writes_through_any_server(
    nodes: Nodes, images: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.store.notices.Listener.notice", lambda *_: None)
    with Client("http://localhost", transport=Alternating(*(node.url for node in nodes))) as client:
        for number in range(10):
            client.enroll(f"c{number}", images[number % 8])  # through the first
            found = client.classify(images[number % 8], k=100)  # through the second
            assert found.gallery_size == number + 1
        client.delete_class("c7")
        with pytest.raises(MissingError):
            client.verify(images[7], label="c7")


class Wire(httpx.HTTPTransport):
    """Records the requested versions, and adds `ahead` to those in answers."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.asked: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get(MIN_VERSION))
        response = super().handle_request(request)
        if version := response.headers.get(VERSION):
            response.headers[VERSION] = str(int(version) + self.ahead)
        return response


def test_the_client_forgets_a_version_that_a_restored_store_has_not_come_to(nodes: Nodes, images: list[bytes]):
    server, _ = nodes
    wire = Wire(ahead=1000)
    with Client(server.url, transport=wire) as client:
        client.enroll("a", images[0])
        assert client.classify(images[0]).gallery_size == 1
        version = server.service.store.written()
        assert wire.asked == [None, str(version + 1000), None]
        wire.ahead = 0
        client.enroll("b", images[1])
        assert client.classify(images[0]).gallery_size == 2


def test_the_asynchronous_client_asks_to_see_its_writes(nodes: Nodes, images: list[bytes]):
    asked: list[tuple[str, str | None]] = []

    class Noting(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.append((request.url.path, request.headers.get(MIN_VERSION)))
            return await super().handle_async_request(request)

    async def work() -> None:
        async with AsyncClient(nodes[0].url, transport=Noting()) as client:
            await client.classify(images[0])
            await client.enroll("a", images[0])
            assert (await client.classify(images[0])).gallery_size == 1
            await client.list_classes()

    asyncio.run(work())
    version = str(nodes[0].service.store.written())
    assert asked == [("/classify", None), ("/enroll", None), ("/classify", version), ("/classes", None)]
