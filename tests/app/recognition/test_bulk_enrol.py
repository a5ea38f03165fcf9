"""Many images in one request: one commit, a status per image, limits."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, features

from app.concurrency.thread_pool import WorkPool
from app.errors import InferenceError
from app.inference.batcher import Batcher
from app.inference.images import EmbeddedImage, PreparedImage, Upload
from app.recognition.bulk_enrol import ManyImages, in_parts
from model.images import ImageLimits, decode_image
from testing.factories import draw_character, encode, png_bytes
from testing.served import Running, assert_problem


def batch(server: Running, files: list[tuple[str, bytes]], labels: list[str] | None = None, **query: str) -> Any:
    parts: list[Any] = [("image", (name, data)) for name, data in files]
    if labels is not None:
        parts += [("label", (None, label)) for label in labels]
    return server.client.post("/enroll/batch", params=query, files=parts)


def lines(server: Running, items: list[tuple[str, bytes]], **query: str) -> httpx.Response:
    body = "\n".join(json.dumps({"label": label, "image": base64.b64encode(data).decode()}) for label, data in items)
    headers = {"Content-Type": "application/x-ndjson"}
    return server.client.post("/enroll/batch", params=query, content=body, headers=headers)


def test_labels_come_from_file_names(served: Running, gallery: str, images: list[bytes]):
    found = batch(served, [(f"dir/c {n}.png", image) for n, image in enumerate(images)], gallery=gallery).json()
    assert (found["enrolled"], found["failed"]) == (len(images), 0)
    assert [item["label"] for item in found["items"]] == [f"c {n}" for n in range(len(images))]
    assert {item["status"] for item in found["items"]} == {201}
    for number, image in enumerate(images):
        assert served.classify(image, gallery=gallery, threshold=0).json()["label"] == f"c {number}"
        assert served.client.get(f"/classes/c {number}/image?gallery={gallery}").content == image


def test_labels_come_from_fields_and_lines_of_json_do_the_same(served: Running, gallery: str, images: list[bytes]):
    labels = ["a", "日本", "a", "x/y"]
    first = batch(served, [("x", image) for image in images[:4]], labels, gallery=gallery).json()
    assert [item["status"] for item in first["items"]] == [201, 201, 200, 201]
    other = lines(served, list(zip(labels, images, strict=False)), gallery=f"{gallery}2").json()
    assert other["items"] == first["items"]
    shots = served.client.get("/classes/a", params={"gallery": gallery}).json()["shots"]
    assert shots == 1
    batch(served, [("x", images[5]), ("x", images[6])], ["a", "a"], gallery=gallery, on_conflict="add")
    assert served.client.get("/classes/a", params={"gallery": gallery}).json()["shots"] == 3


def test_a_bad_image_harms_no_other(served: Running, gallery: str, images: list[bytes]):
    items = [("a", images[0]), ("b", b""), ("c", images[1][:60]), ("d", b"nonsense"), ("", images[2]), ("e", images[3])]
    found = lines(served, items, gallery=gallery).json()
    assert [item["status"] for item in found["items"]] == [201, 422, 422, 415, 422, 201]
    problems = [None, "empty-image", "undecodable-image", "unsupported-image", "invalid-request", None]
    assert [item["problem"] for item in found["items"]] == problems
    assert (found["enrolled"], found["failed"]) == (2, 4)
    listed = served.client.get("/classes", params={"gallery": gallery}).json()["classes"]
    assert [each["label"] for each in listed] == ["a", "e"]


def test_fail_refuses_only_what_exists(served: Running, gallery: str, images: list[bytes]):
    served.enroll("b", images[0], gallery=gallery)
    items = list(zip("abcac", images, strict=False))
    found = lines(served, items, gallery=gallery, on_conflict="fail").json()
    assert [item["status"] for item in found["items"]] == [201, 409, 201, 409, 409]
    assert served.client.get(f"/classes/a/image?gallery={gallery}").content == images[0]


def test_a_batch_is_one_commit(served: Running, gallery: str, images: list[bytes]):
    served.enroll("first", images[0], gallery=gallery)
    before = served.service.store.version()
    lines(served, [(f"c{n}", images[n % 8]) for n in range(200)], gallery=gallery)
    assert served.service.store.version() == before + 1
    assert served.service.index.size(gallery) == 201


@pytest.mark.parametrize(
    ("body", "kind", "status", "slug"),
    [
        (b"", "application/x-ndjson", 422, "invalid-request"),
        (b"x", "text/plain", 415, "unsupported-media-type"),
        (b"x", "multipart/form-data", 400, "malformed-body"),
    ],
)
def test_bodies_that_cannot_be(served: Running, body: bytes, kind: str, status: int, slug: str):
    response = served.client.post("/enroll/batch", content=body, headers={"Content-Type": kind})
    assert_problem(response, status, slug)


def test_lines_that_are_wrong_are_told_one_by_one(served: Running, gallery: str):
    body = b'nonsense\n[]\n{"label": 3, "image": ""}\n{"label": "a", "image": "%%"}\n{"label": "a"}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    response = served.client.post("/enroll/batch", params={"gallery": gallery}, content=body, headers=headers)
    assert [item["problem"] for item in response.json()["items"]] == ["invalid-request"] * 5
    assert response.json()["enrolled"] == 0


def test_labels_must_be_as_many_as_images(served: Running, images: list[bytes]):
    assert_problem(batch(served, [("a", images[0]), ("b", images[1])], ["one"]), 422, "invalid-request")
    assert_problem(served.client.post("/enroll/batch", files={"picture": ("a", b"x")}), 422, "invalid-request")


def test_limits(serve, images: list[bytes], tmp_path: Path):
    with serve(max_enroll_images=3, max_enroll_bytes=20_000) as server:
        assert lines(server, [(f"{n}", images[n]) for n in range(3)]).json()["enrolled"] == 3
        assert_problem(lines(server, [(f"{n}", images[n]) for n in range(4)]), 413, "too-many-parts")
        assert_problem(batch(server, [(f"{n}", images[n]) for n in range(4)]), 413, "too-many-parts")
        assert_problem(lines(server, [("big", bytes(30_000))]), 413, "payload-too-large")
        assert server.service.index.size("default") == 3


def test_a_batch_larger_than_the_queue_waits_for_its_turn(serve, images: list[bytes]):
    with serve(max_queue=8, max_batch=8, max_images=8) as server:
        found = lines(server, [(f"c{n}", images[n % 8]) for n in range(100)]).json()
        assert found["enrolled"] == 100


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        ([10] * 130, [64, 64, 2]),
        ([70_000, 10, 10, 70_000, 80_000], [1, 2, 1, 1]),
        ([40_000] * 3, [1, 1, 1]),
        ([1], [1]),
    ],
)
def test_small_images_share_a_thread_and_large_ones_do_not(sizes: list[int], lengths: list[int]):
    uploads = [Upload(bytes(size), str(place)) for place, size in enumerate(sizes)]
    parts = list(in_parts(uploads))
    assert [len(part) for part in parts] == lengths
    assert [upload for part in parts for upload in part] == uploads


def test_a_vector_that_is_not_finite_is_refused_alone():
    nan, inf, large = np.nan, np.inf, np.finfo(np.float32).max
    rows = [[1, 2], [nan, 0], [large, large], [0, inf], [inf, -inf], [-large, -large], [3, 4]]
    batcher, decoding = Batcher(lambda batch: batch), WorkPool("test", threads=1, max_pending=9)
    batcher.start()
    try:
        many = ManyImages(lambda upload: PreparedImage(np.frombuffer(upload.data, np.float32), "x"), batcher, decoding)
        uploads = [Upload(np.array(row, np.float32).tobytes(), str(place)) for place, row in enumerate(rows)]
        found = asyncio.run(many.embed(uploads))
    finally:
        batcher.close()
        decoding.close()
    kept = {place: each.vector.tolist() for place, each in enumerate(found) if isinstance(each, EmbeddedImage)}
    assert kept == {place: rows[place] for place in (0, 2, 5, 6)}
    assert [type(found[place]) for place in (1, 3, 4)] == [InferenceError] * 3


@pytest.mark.parametrize("error", [RecursionError("deep"), ZeroDivisionError("deep"), KeyError("MPO")])
def test_whatever_an_image_raises_is_its_own_alone(
    served: Running, gallery: str, images: list[bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def decode(data: bytes, limits: ImageLimits) -> Image.Image:
        if data == images[1]:
            raise error
        return decode_image(data, limits)

    monkeypatch.setattr("model.images.decode_image", decode)
    files = [(f"{place}.png", image) for place, image in enumerate(images[:3])]
    found = batch(served, files, gallery=gallery).json()
    assert [item["problem"] for item in found["items"]] == [None, "internal-error", None]
    assert "deep" not in found["items"][1]["detail"]


def test_a_jpeg_with_a_second_picture_is_enrolled(served: Running, gallery: str, images: list[bytes]):
    mpo = encode(draw_character(20), "MPO", save_all=True, append_images=[draw_character(21)])
    found = batch(served, [("a.png", images[0]), ("b.jpg", mpo)], gallery=gallery).json()
    assert [item["status"] for item in found["items"]] == [201, 201]
    stored = served.client.get("/classes/b/image", params={"gallery": gallery})
    assert (stored.content, stored.headers["content-type"]) == (mpo, "image/jpeg")
    assert served.classify(png_bytes(draw_character(20)), gallery=gallery).json()["candidates"][0]["label"] == "b"


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF here")
def test_pictures_of_phones_are_taken(served: Running, gallery: str, images: list[bytes]):
    avif = encode(draw_character(20).convert("RGB"), "AVIF")
    found = batch(served, [("a.png", images[0]), ("b.avif", avif), ("c.avif", avif[:300])], gallery=gallery).json()
    assert [item["problem"] for item in found["items"]] == [None, None, "undecodable-image"]
    assert served.client.get("/classes/b/image", params={"gallery": gallery}).headers["content-type"] == "image/avif"
    assert served.classify(avif, gallery=gallery).json()["label"] == "b"


def test_missing_memory_for_an_image_is_no_fault_of_the_image(
    served: Running, gallery: str, images: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    def decode(_data: bytes, _limits: ImageLimits) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr("model.images.decode_image", decode)
    assert_problem(served.classify(images[0]), 503, "overloaded")
    found = batch(served, [("a.png", images[0])], gallery=gallery).json()
    assert (found["items"][0]["status"], found["items"][0]["problem"]) == (503, "overloaded")
