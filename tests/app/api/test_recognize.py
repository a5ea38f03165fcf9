"""The main operations over HTTP: enrol, classify, verify, embed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from model.distances import distances
from testing.factories import draw_character, png_bytes
from testing.served import Running, assert_problem


def test_enrolling_a_new_class_answers_201_with_the_class(served: Running, gallery: str, images: list[bytes]):
    response = served.enroll("alpha", images[0], gallery=gallery)
    assert response.status_code == 201
    body = response.json()
    assert body["created"] is True
    assert body["class"]["label"] == "alpha"
    assert body["class"]["gallery"] == gallery
    assert body["class"]["shots"] == 1
    assert body["model"] == served.client.get("/model").json()["model"]
    assert served.client.get(response.headers["location"]).json() == body["class"]


def test_replacing_keeps_one_shot_and_forgets_the_old_image(served: Running, gallery: str, images: list[bytes]):
    served.enroll("alpha", images[0], gallery=gallery)
    response = served.enroll("alpha", images[1], gallery=gallery)
    assert response.status_code == 200
    assert response.json()["created"] is False
    assert response.json()["class"]["shots"] == 1
    assert served.classify(images[1], gallery=gallery).json()["candidates"][0]["distance"] == pytest.approx(0, abs=1e-5)
    assert served.classify(images[0], gallery=gallery).json()["candidates"][0]["distance"] > 1e-3


def test_adding_keeps_several_shots_and_the_class_comes_once(served: Running, gallery: str, images: list[bytes]):
    served.enroll("alpha", images[0], gallery=gallery)
    response = served.enroll("alpha", images[1], gallery=gallery, on_conflict="add")
    assert (response.status_code, response.json()["class"]["shots"]) == (200, 2)
    for image in images[:2]:
        candidates = served.classify(image, gallery=gallery).json()["candidates"]
        assert [candidate["label"] for candidate in candidates] == ["alpha"]
        assert candidates[0]["distance"] == pytest.approx(0, abs=1e-5)


def test_on_conflict_fail_refuses_and_changes_nothing(served: Running, gallery: str, images: list[bytes]):
    assert served.enroll("alpha", images[0], gallery=gallery, on_conflict="fail").status_code == 201
    before = served.client.get("/classes/alpha", params={"gallery": gallery}).json()
    problem = assert_problem(
        served.enroll("alpha", images[1], gallery=gallery, on_conflict="fail"), 409, "class-exists"
    )
    assert "alpha" in problem["detail"]
    assert served.client.get("/classes/alpha", params={"gallery": gallery}).json() == before
    assert served.client.get("/classes/alpha/image", params={"gallery": gallery}).content == images[0]


def test_the_gallery_may_stand_in_the_query_too(served: Running, gallery: str, images: list[bytes]):
    url = f"/enroll?gallery={gallery}"
    response = served.client.post(url, data={"label": "alpha"}, files={"image": ("x", images[0])})
    assert response.json()["class"]["gallery"] == gallery
    both = served.client.post(url, data={"label": "a", "gallery": "other"}, files={"image": ("x", images[0])})
    assert_problem(both, 422, "invalid-request")


def test_classify_names_each_enrolled_image(served: Running, gallery: str, images: list[bytes]):
    for number, image in enumerate(images):
        served.enroll(f"class {number}", image, gallery=gallery)
    for number, image in enumerate(images):
        body = served.classify(image, gallery=gallery, k=3).json()
        assert body["label"] == f"class {number}"
        assert body["gallery_size"] == len(images)
        assert len(body["candidates"]) == 3
        ranked = [candidate["similarity"] for candidate in body["candidates"]]
        assert ranked == sorted(ranked, reverse=True)
        assert body["candidates"][0]["similarity"] >= body["threshold"]


def test_raw_body_and_multipart_give_the_same_answer(served: Running, gallery: str, images: list[bytes]):
    served.enroll("alpha", images[0], gallery=gallery)
    form = served.classify(images[1], gallery=gallery).json()
    for content_type in ("image/png", "application/octet-stream", "image/jpeg"):  # the declared type is not trusted
        headers = {"content-type": content_type}
        raw = served.client.post("/classify", params={"gallery": gallery}, content=images[1], headers=headers).json()
        assert raw["candidates"][0]["similarity"] == pytest.approx(form["candidates"][0]["similarity"], abs=1e-5)


def test_a_stranger_is_a_normal_answer(served: Running, gallery: str, images: list[bytes]):
    served.enroll("alpha", images[0], gallery=gallery)
    body = served.classify(images[1], gallery=gallery, threshold=1).json()
    assert body["label"] is None
    assert body["threshold"] == 1
    assert [candidate["label"] for candidate in body["candidates"]] == ["alpha"]


def test_threshold_0_always_names_the_best(served: Running, gallery: str, images: list[bytes]):
    served.enroll("alpha", images[0], gallery=gallery)
    assert served.classify(images[5], gallery=gallery, threshold=0).json()["label"] == "alpha"


def test_the_default_threshold_rises_with_the_gallery(served: Running, gallery: str, images: list[bytes]):
    thresholds = []
    for number in range(3):
        served.enroll(f"class {number}", images[number], gallery=gallery)
        thresholds.append(served.classify(images[0], gallery=gallery).json()["threshold"])
    assert thresholds == sorted(set(thresholds))


def test_the_empty_default_gallery_knows_nobody(serve, images: list[bytes]):
    with serve() as server:
        body = server.classify(images[0]).json()
        assert (body["label"], body["candidates"], body["gallery_size"]) == (None, [], 0)
        assert server.client.get("/classes").json() == {"gallery": "default", "classes": [], "next": None}
        assert server.client.get("/galleries").json() == {"galleries": []}
        for path in ("/classes/alpha", "/classes/alpha/image"):
            assert_problem(server.client.get(path), 404, "class-not-found")
        assert_problem(server.client.delete("/classes/alpha"), 404, "class-not-found")
        verify = server.client.post("/verify", data={"label": "a"}, files={"image1": ("a", images[0])})
        assert_problem(verify, 404, "class-not-found")
        assert_problem(server.client.delete("/galleries/default"), 404, "gallery-not-found")


def test_verify_two_images(served: Running, images: list[bytes]):
    files = {"image1": ("a", images[0]), "image2": ("b", images[0])}
    same = served.client.post("/verify", files=files).json()
    assert same["verified"] is True
    assert same["distance"] == pytest.approx(0, abs=1e-5)
    other = {"image1": ("a", images[0]), "image2": ("b", images[1])}
    strict = served.client.post("/verify", params={"threshold": 1}, files=other).json()
    assert strict["verified"] is False
    assert strict["similarity"] < same["similarity"]


def test_verify_against_a_label_takes_its_nearest_shot(served: Running, gallery: str, images: list[bytes]):
    served.enroll("alpha", images[0], gallery=gallery)
    served.enroll("alpha", images[1], gallery=gallery, on_conflict="add")
    for image in images[:2]:
        body = served.client.post(
            "/verify", params={"gallery": gallery}, data={"label": "alpha"}, files={"image1": ("a", image)}
        ).json()
        assert body["distance"] == pytest.approx(0, abs=1e-5)


def test_embeddings_are_in_index_form(served: Running, images: list[bytes]):
    body = served.client.post("/embed", files=[("image", ("x", image)) for image in images[:2]]).json()
    vectors = np.array(body["embeddings"], dtype=np.float32)
    assert vectors.shape == (2, body["dim"])
    metric = served.client.get("/model").json()["metric"]
    found = distances(metric, vectors[:1], vectors[1:])[0, 0]
    files = {"image1": ("a", images[0]), "image2": ("b", images[1])}
    assert served.client.post("/verify", files=files).json()["distance"] == pytest.approx(float(found), abs=1e-5)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_formats_are_told_by_their_bytes(served: Running, gallery: str, kind: str):
    buffer = io.BytesIO()
    draw_character(3).convert("RGB").save(buffer, kind)
    response = served.client.post(
        "/enroll",
        data={"label": kind, "gallery": gallery},
        files={"image": ("photo.exe", buffer.getvalue(), "text/html")},
    )
    assert response.status_code == 201
    image = served.client.get(f"/classes/{kind}/image", params={"gallery": gallery})
    assert image.content == buffer.getvalue()
    assert image.headers["content-type"].startswith("image/")
    assert image.headers["x-content-type-options"] == "nosniff"
    assert Image.open(io.BytesIO(image.content)).format == kind


def test_white_on_black_is_the_same_character(served: Running, images: list[bytes]):
    inverted = png_bytes(draw_character(0).point(lambda value: 255 - value))
    files = {"image1": ("a", images[0]), "image2": ("b", inverted)}
    assert served.client.post("/verify", files=files).json()["distance"] == pytest.approx(0, abs=1e-4)
