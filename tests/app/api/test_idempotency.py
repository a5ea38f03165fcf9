"""`Idempotency-Key`: a repeated enrolment is done once and gets the first answer again."""

from __future__ import annotations

import base64
import io
import json
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.api_key import Scope, make_key
from app.store.schema import receipts
from testing.served import Running, assert_problem, make_settings, on_both_stores, running

pytest_generate_tests = on_both_stores


def enroll(server: Running, image: bytes, key: str | None = "k", label: str = "a", **fields: str) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    data = {"label": label, "on_conflict": "add", **fields}
    return server.client.post("/enroll", data=data, files={"image": ("x.png", image)}, headers=headers)


def shots(server: Running, label: str, gallery: str = "default") -> int:
    found: int = server.client.get(f"/classes/{label}", params={"gallery": gallery}).json().get("shots", 0)
    return found


@pytest.fixture
def server(where: Path | str, artifact: Path, tmp_path: Path) -> Iterator[Running]:
    store = where if isinstance(where, str) else None
    with running(make_settings(model=artifact, home=tmp_path / "home", store=store)) as started:
        yield started


def test_an_enrolment_that_is_sent_again_is_done_once(server: Running, images: list[bytes]):
    first = enroll(server, images[0])
    between = enroll(server, images[1], None)
    again = enroll(server, images[0])
    assert (first.status_code, between.status_code, again.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["oneshot-version"] >= first.headers["oneshot-version"]
    assert shots(server, "a") == 2
    assert enroll(server, images[0], "another").json()["class"]["shots"] == 3


def test_another_server_and_a_restart_know_it(where: Path | str, artifact: Path, tmp_path: Path, images: list[bytes]):
    store = where if isinstance(where, str) else None
    homes = [tmp_path / "home" if store is None else tmp_path / f"home {number}" for number in range(2)]
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(running(make_settings(model=artifact, home=home, store=store))) for home in homes
        )
        first, again = enroll(one, images[0]), enroll(two, images[0])
        assert again.json() == first.json()
        seen = {"Oneshot-Min-Version": again.headers["oneshot-version"]}
        found = two.client.post("/classify", files={"image": ("x", images[0])}, headers=seen)
        assert found.json()["gallery_size"] == 1
    with running(make_settings(model=artifact, home=homes[0], store=store)) as three:
        assert enroll(three, images[0]).json() == first.json()
        assert shots(three, "a") == 1


def test_many_at_once_with_one_key_are_one(served: Running, images: list[bytes], gallery: str):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: enroll(served, images[0], gallery, gallery=gallery), range(12)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert shots(served, "a", gallery) == 1


DIFFERENT: list[dict[str, str]] = [{"label": "b"}, {"gallery": "other"}, {"on_conflict": "replace"}]


@pytest.mark.parametrize("fields", DIFFERENT)
def test_another_request_with_the_key_is_refused(served: Running, images: list[bytes], gallery: str, fields):
    enroll(served, images[0], gallery, gallery=gallery)
    other = enroll(served, images[0], gallery, **{"gallery": gallery, **fields})
    assert "new key" in assert_problem(other, 422, "idempotency-key-reused")["detail"]
    assert_problem(enroll(served, images[1], gallery, gallery=gallery), 422, "idempotency-key-reused")
    assert enroll(served, images[0], gallery, gallery=gallery).status_code == 201
    batch = lines([("a", images[0])])
    answer = served.client.post(
        "/enroll/batch", params={"gallery": gallery}, headers=keyed(batch, gallery), **content(batch)
    )
    assert_problem(answer, 422, "idempotency-key-reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tab\tin it", "Ã¤"])
def test_what_is_no_key_is_refused(served: Running, images: list[bytes], gallery: str, key: str):
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = served.client.post(
        "/enroll", data={"label": "a", "gallery": gallery}, files={"image": ("x", images[0])}, headers=headers
    )
    [error] = assert_problem(answer, 422, "invalid-request")["errors"]
    assert error["loc"] == ["header", "Idempotency-Key"]
    assert shots(served, "a", gallery) == 0


def test_two_keys_are_refused(served: Running, images: list[bytes], gallery: str):
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = served.client.post(
        "/enroll", data={"label": "a", "gallery": gallery}, files={"image": ("x", images[0])}, headers=headers
    )
    assert_problem(answer, 422, "invalid-request")


def test_what_failed_may_be_sent_again_with_its_key(served: Running, images: list[bytes], gallery: str):
    assert_problem(enroll(served, b"no image", gallery, gallery=gallery), 415, "unsupported-image")
    assert enroll(served, images[0], gallery, gallery=gallery).status_code == 201


Body = tuple[str, bytes]


def lines(items: list[tuple[str, bytes]]) -> Body:
    made = [json.dumps({"label": label, "image": base64.b64encode(image).decode()}) for label, image in items]
    return "application/x-ndjson", "\n".join(made).encode()


def zipped(items: list[tuple[str, bytes]]) -> Body:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for place, (label, image) in enumerate(items):
            archive.writestr(zipfile.ZipInfo(f"{label}/{place}.png"), image)
    return "application/zip", file.getvalue()


def keyed(body: Body | None, key: str) -> dict[str, str]:
    return {"Idempotency-Key": key} | ({} if body is None else {"Content-Type": body[0]})


def content(body: Body) -> dict[str, Any]:
    return {"content": body[1]}


@pytest.mark.parametrize("form", ["lines", "zip", "form"])
@pytest.mark.parametrize("on_conflict", ["add", "fail"])
def test_a_batch_that_is_sent_again_is_done_once(
    served: Running, images: list[bytes], gallery: str, form: str, on_conflict: str
):
    enroll(served, images[3], None, "there", gallery=gallery)
    items = [("a", images[0]), ("b", b"no image"), ("there", images[1]), ("c", b""), ("c", images[2])]

    def send(items: list[tuple[str, bytes]]) -> httpx.Response:
        query = {"gallery": gallery, "on_conflict": on_conflict}
        if form == "form":
            files = [("image", (f"{place}.png", image)) for place, (_, image) in enumerate(items)]
            data = {"label": [label for label, _ in items]}
            return served.client.post(
                "/enroll/batch", params=query, data=data, files=files, headers=keyed(None, gallery)
            )
        body = (lines if form == "lines" else zipped)(items)
        return served.client.post("/enroll/batch", params=query, headers=keyed(body, gallery), **content(body))

    first = send(items)
    assert first.status_code == 200, first.text
    statuses = [item["status"] for item in first.json()["items"]]
    assert statuses == [201, 415, 409 if on_conflict == "fail" and form != "zip" else statuses[2], 422, 201]
    served.client.delete("/classes/a", params={"gallery": gallery})
    again = send(items)
    assert again.json() == first.json()
    assert shots(served, "a", gallery) == 0, "nothing was done again"
    assert shots(served, "c", gallery) == 1
    assert_problem(send(items[:-1]), 422, "idempotency-key-reused")


def test_a_batch_of_which_nothing_was_enrolled_is_done_when_it_is_sent_again(
    served: Running, images: list[bytes], gallery: str
):
    enroll(served, images[0], None, "a", gallery=gallery)
    body = lines([("a", images[0])])
    query = {"gallery": gallery, "on_conflict": "fail"}
    send = lambda: served.client.post("/enroll/batch", params=query, headers=keyed(body, gallery), **content(body))  # noqa: E731
    assert [item["problem"] for item in send().json()["items"]] == ["class-exists"]
    served.client.delete("/classes/a", params={"gallery": gallery})
    assert [item["status"] for item in send().json()["items"]] == [201]


def test_what_is_kept_of_a_large_batch_is_little(served: Running, images: list[bytes], gallery: str):
    body = lines([("a", images[0])] + [("b", b"no image")] * 999)
    query = {"gallery": gallery}
    first = served.client.post("/enroll/batch", params=query, headers=keyed(body, gallery), **content(body))
    assert first.json()["failed"] == 999
    with served.service.store.database.read() as connection:
        [kept] = connection.execute(sa.select(receipts.c.answer).order_by(receipts.c.number.desc()).limit(1)).scalars()
    assert len(kept) < 2000
    again = served.client.post("/enroll/batch", params=query, headers=keyed(body, gallery), **content(body))
    assert again.json() == first.json()


def test_two_batches_at_once_are_one(served: Running, images: list[bytes], gallery: str):
    body = lines([(f"c{number}", image) for number, image in enumerate(images)] + [("bad", b"no image")])
    query = {"gallery": gallery, "on_conflict": "add"}

    def send(_number: int) -> Any:
        answer = served.client.post("/enroll/batch", params=query, headers=keyed(body, gallery), **content(body))
        return answer.json()

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(send, range(4))
    assert all(other == first for other in others)
    assert {shots(served, f"c{number}", gallery) for number in range(8)} == {1}


def test_keys_of_different_holders_are_different(serve, images: list[bytes]):
    with serve(api_keys="on") as server:
        answers = []
        for name in ("one", "two"):
            key, secret = make_key(name, frozenset({Scope.ENROL, Scope.READ}))
            server.service.store.keys.add(key)
            time.sleep(0.6)  # until the service sees the new key
            server.client.headers["Authorization"] = f"Bearer {secret}"
            answers.append(enroll(server, images[0]))
        assert [answer.status_code for answer in answers] == [201, 200]
        assert shots(server, "a") == 2


def test_the_schema_names_the_header(served: Running):
    paths = served.client.get("/openapi.json").json()["paths"]
    having = {
        path
        for path, operations in paths.items()
        for operation in operations.values()
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", []))
    }
    assert having == {"/enroll", "/enroll/batch"}
    for path in having:
        assert "idempotency-key-reused" in json.dumps(paths[path]["post"]["responses"]["422"])


def test_pages_of_allowed_sites_may_send_it(serve):
    with serve(cors_origins="https://lab.example") as server:
        asked = {
            "Origin": "https://lab.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "idempotency-key",
        }
        assert server.client.options("/enroll", headers=asked).status_code == 200
