"""Maps are computed one at a time, do not block other requests, and are cached until the gallery changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.api_key import Scope, make_key
from app.concurrency.thread_pool import WorkPool
from app.pace import Pace
from app.recognition import maps
from app.recognition.maps import Maps
from app.store.base import OnConflict
from model.artifact import read_manifest
from testing.served import Running, assert_problem
from testing.stores import support


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of classes of each computed map, in order."""
    sizes: list[int] = []
    nearest = vars(maps)["nearest"]

    def counted(metric: Any, vectors: Any, k: int) -> Any:
        sizes.append(len(vectors))
        return nearest(metric, vectors, k)

    monkeypatch.setattr(maps, "nearest", counted)
    return sizes


def labels(server: Running) -> list[str]:
    found = server.client.get("/galleries/default/map")
    assert found.status_code == 200, found.text
    assert found.headers["content-type"] == "application/json"
    return [point["label"] for point in found.json()["points"]]


def test_a_map_is_kept_until_the_gallery_changes(serve, images: list[bytes], made: list[int], artifact):
    with serve() as server:
        assert labels(server) == []
        for label, image in zip("abc", images, strict=False):
            server.enroll(label, image)
        assert labels(server) == labels(server) == ["a", "b", "c"]
        assert made == [0, 3]
        server.enroll("elsewhere", images[3], gallery="other")
        assert labels(server) == ["a", "b", "c"]
        assert made == [0, 3], "another gallery's change is none of this one"
        server.client.patch("/classes/a", json={"label": "d"})
        assert sorted(labels(server)) == ["b", "c", "d"]
        server.client.delete("/classes/b")
        assert sorted(labels(server)) == ["c", "d"]
        first = server.client.get("/galleries/default/map").json()["points"][0]["neighbours"][0]["similarity"]
        calibration = read_manifest(artifact).calibration.with_prior(0.001).model_dump_json()
        server.service.store.set_calibration("default", server.service.embedder.digest, calibration)
        again = server.client.get("/galleries/default/map").json()["points"][0]["neighbours"][0]["similarity"]
        assert again != first
        assert made == [0, 3, 3, 2, 2]
        server.client.delete("/galleries/default")
        assert labels(server) == []
        assert_problem(server.client.get("/galleries/nowhere/map"), 404, "gallery-not-found")


@contextmanager
def stuck_maps(
    server: Running, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> Iterator[list[Future[Any]]]:
    """Request many maps, of which none completes before the block ends."""
    begun, free = threading.Event(), threading.Event()
    nearest = vars(maps)["nearest"]

    def stuck(*arguments: Any) -> Any:
        begun.set()
        assert free.wait(30)
        return nearest(*arguments)

    monkeypatch.setattr(maps, "nearest", stuck)
    with ThreadPoolExecutor(12) as pool:
        try:
            url = f"{server.url}/galleries/default/map"
            asked = [pool.submit(httpx.get, url, headers=headers, timeout=60) for _ in range(12)]
            assert begun.wait(10)
            yield asked
        finally:
            free.set()


def test_maps_delay_nothing_and_the_same_one_is_made_once(
    serve, images: list[bytes], monkeypatch: pytest.MonkeyPatch, made: list[int]
):
    with serve(Pace(key_freshness=0), api_keys="on") as server:  # every request reads the keys
        key, text = make_key("test", frozenset(Scope))
        server.service.store.keys.add(key)
        headers = {"X-API-Key": text}
        server.client.headers.update(headers)
        for label, image in zip("abc", images, strict=False):
            assert server.enroll(label, image).status_code == 201
        with stuck_maps(server, monkeypatch, headers) as asked:
            assert server.enroll("d", images[3], gallery="other").status_code == 201
            assert server.client.get("/classes").status_code == 200
            assert server.classify(images[0]).status_code == 200
            assert server.client.get("/readyz").status_code == 200
            assert server.client.delete("/classes/d?gallery=other").status_code == 204
            assert not any(each.done() for each in asked)
        bodies = {each.result().content for each in asked}
        assert [each.result().status_code for each in asked] == [200] * 12
        assert len(bodies) == 1
        assert made == [3]


class Editions:
    """An index with galleries that never change."""

    def edition(self, gallery: str) -> tuple[object, ...]:
        return (gallery,)


def test_only_so_much_is_kept():
    pool = WorkPool("test", 1, 10)
    kept = Maps(Editions(), pool, pool, kept_bytes=32)  # type: ignore[arg-type]
    made: list[str] = []

    def ask(name: str, size: int = 15, digest: str = "digest") -> None:
        def make() -> bytes:
            made.append(name)
            return b"x" * size

        assert len(asyncio.run(kept.get(name, digest, make))) == size

    try:
        for name in ("a", "b", "a", "c", "a", "b"):
            ask(name)
        assert made == ["a", "b", "c", "b"], "the one that was asked for last stays longest"
        made.clear()
        for _ in range(2):
            ask("large", 40)
        assert made == ["large", "large"], "what is larger than all that is kept is made each time"
        made.clear()
        for _ in range(2):
            ask("a", 1)
            ask("a", 1, digest="other")
        assert made == ["a", "a"], "once for each model"
    finally:
        pool.close()


def test_an_edition_is_another_whenever_the_gallery_is(served: Running, gallery: str):
    store, index = served.service.store, served.service.index
    digest, dim = served.service.embedder.digest, served.service.embedder.dim
    assert index.edition(gallery) == ()
    store.enroll(gallery, [support("a", [1.0] * dim, digest=digest)], OnConflict.REPLACE)
    first = index.edition(gallery)
    assert first != ()
    assert index.edition(gallery) == first
    store.enroll(gallery, [support("a", [2.0] * dim, digest=digest)], OnConflict.REPLACE)
    assert index.edition(gallery) != first
