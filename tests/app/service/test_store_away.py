"""The database server goes down and returns: reads keep working, and say how old their data is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from app.api_key import Scope, make_key
from app.store import SqlStore
from oneshot_client.wire import MIN_VERSION, VERSION
from testing.postgres import Postgres, missing
from testing.served import Running, assert_problem, make_settings, running

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.fixture(params=["off", "on"], ids=["without keys", "with keys"])
def nodes(
    request: pytest.FixtureRequest, own_server: Postgres, artifact: Path, tmp_path: Path
) -> Iterator[tuple[Running, Running]]:
    url = own_server.new_store()
    key, text = make_key("test", frozenset({Scope.ADMIN}))
    with closing(SqlStore(url)) as store:
        store.keys.add(key)
    with ExitStack() as stack:
        started = []
        for number in range(2):
            settings = make_settings(model=artifact, home=tmp_path / f"{number}", store=url, api_keys=request.param)
            started.append(stack.enter_context(running(settings)))
            started[-1].client.headers["X-API-Key"] = text
        yield started[0], started[1]


def test_recognition_goes_on_and_everything_converges(
    nodes: tuple[Running, Running], own_server: Postgres, images: list[bytes]
):
    first, second = nodes
    wait_until(lambda: all(node.client.get("/readyz").status_code == 200 for node in nodes))
    version = first.enroll("a", images[0]).headers[VERSION]
    for node in nodes:  # until every node has followed the write, without a request
        wait_until(lambda node=node: node.service.index.last_digest("default") is not None)  # type: ignore[misc]
    for number, end in enumerate((own_server.stop, own_server.kill)):
        end()
        for node in nodes:
            wait_until(lambda node=node: node.service.index.age() > 0)  # type: ignore[misc]
            for answer in (
                node.enroll("lost", images[1]),
                node.client.delete("/classes/a"),
                node.client.get("/classes"),
            ):
                assert_problem(answer, 503, "store-unavailable")
                assert answer.headers["Retry-After"]
            found = node.classify(images[0])
            assert found.json()["candidates"][0]["label"] == "a"
            assert int(found.headers["Age"]) >= 1
            same = node.client.post("/verify", data={"label": "a"}, files={"image1": ("x", images[0])})
            assert same.json()["distance"] < 1e-3
            wait_until(lambda node=node: node.client.get("/readyz").status_code == 503)  # type: ignore[misc]
            problem = assert_problem(node.client.get("/readyz"), 503, "not-ready")
            assert "store can't be written" in problem["detail"]
            assert node.metric("oneshot_view_age_seconds") > 0
            behind = node.client.post(
                "/classify", files={"image": ("x", images[0])}, headers={MIN_VERSION: str(int(version) + 1)}
            )
            assert_problem(behind, 503, "behind")
        own_server.start()
        wait_until(lambda: all(node.client.get("/readyz").status_code == 200 for node in nodes))
        version = second.enroll(f"b{number}", images[2]).headers[VERSION]
        seen = first.client.post("/classify", files={"image": ("x", images[2])}, headers={MIN_VERSION: version})
        assert seen.json()["gallery_size"] == number + 2
        wait_until(lambda: "Age" not in first.classify(images[0]).headers)
        assert first.metric("oneshot_view_age_seconds") == 0
        listed = [{each["label"] for each in node.client.get("/classes").json()["classes"]} for node in nodes]
        assert listed == [{"a", *(f"b{each}" for each in range(number + 1))}] * 2


def test_a_database_that_hangs_holds_up_no_recognition(
    own_server: Postgres, artifact: Path, tmp_path: Path, images: list[bytes]
):
    settings = make_settings(model=artifact, home=tmp_path, store=own_server.new_store(), request_timeout=4.0)
    with running(settings) as server, ThreadPoolExecutor(8) as pool:
        wait_until(lambda: server.client.get("/readyz").status_code == 200)
        server.enroll("a", images[0])
        wait_until(lambda: server.classify(images[0]).json()["gallery_size"] == 1)
        own_server.freeze()
        try:
            writes = [pool.submit(server.enroll, f"b{number}", images[1]) for number in range(8)]
            wait_until(lambda: server.service.index.age() > 0)
            for _ in range(3):
                found = server.classify(images[0])
                assert found.json()["candidates"][0]["label"] == "a"
                assert int(found.headers["Age"]) >= 1
            assert {write.result().status_code for write in writes} <= {503, 504}  # threads may hang, requests must not
        finally:
            own_server.thaw()
        wait_until(lambda: server.client.get("/readyz").status_code == 200)
        assert server.enroll("c", images[2]).status_code == 201
        wait_until(lambda: "Age" not in server.classify(images[0]).headers)
