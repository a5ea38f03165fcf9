"""Classes over HTTP: lists, pages and deletion."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import pytest

from testing.factories import draw_character, png_bytes
from testing.served import Running, assert_problem


def test_pages_cover_all_classes_once_in_order(served: Running, gallery: str, images: list[bytes]):
    labels = ["b", "a", "ä", "c/d", "Z", "漢", "e"]
    for label in labels:
        served.enroll(label, images[0], gallery=gallery)
    seen: list[str] = []
    after: str | None = None
    for _ in range(4):
        query: dict[str, str] = {"gallery": gallery, "limit": "2", **({"after": after} if after else {})}
        page = served.client.get("/classes", params=query).json()
        seen += [item["label"] for item in page["classes"]]
        after = page["next"]
    assert after is None
    assert seen == sorted(labels)


def test_a_search_is_paged_and_takes_nothing_for_a_wildcard(served: Running, gallery: str, images: list[bytes]):
    for label in ("100 % wool", "100 grams", "Wool_1", "Wool 1", "wÖOL", "a.b"):
        served.enroll(label, images[0], gallery=gallery)

    def search(text: str, **more: str) -> tuple[list[str], str | None]:
        page = served.client.get("/classes", params={"gallery": gallery, "search": text, **more}).json()
        return [item["label"] for item in page["classes"]], page["next"]

    assert search("wool") == (["100 % wool", "Wool 1", "Wool_1"], None)
    assert search("wool", limit="2") == (["100 % wool", "Wool 1"], "Wool 1")
    assert search("wool", limit="2", after="Wool 1") == (["Wool_1"], None)
    assert search("%") == (["100 % wool"], None)
    assert search("_") == (["Wool_1"], None)
    assert search(".") == (["a.b"], None)
    assert search("wo\u0308ol") == (["wÖOL"], None)
    assert search("nobody") == ([], None)
    assert served.client.get("/classes", params={"search": "x"}).json()["classes"] == []


def test_deleting_a_class_forgets_it_everywhere(served: Running, gallery: str, images: list[bytes]):
    where = {"gallery": gallery}
    served.enroll("a", images[0], gallery=gallery)
    served.enroll("b", images[1], gallery=gallery)
    response = served.client.delete("/classes/a", params=where)
    assert (response.status_code, response.content) == (204, b"")
    assert [c["label"] for c in served.classify(images[0], gallery=gallery, k=10).json()["candidates"]] == ["b"]
    for gone in ("/classes/a", "/classes/a/image"):
        assert_problem(served.client.get(gone, params=where), 404, "class-not-found")
    assert_problem(served.client.delete("/classes/a", params=where), 404, "class-not-found")


def rename(served: Running, label: str, new: str, **query: str):
    return served.client.patch(f"/classes/{quote(label, safe='')}", params=query, json={"label": new})


def test_renaming_keeps_everything_but_the_label(served: Running, gallery: str, images: list[bytes]):
    before = served.enroll("a/b", images[0], gallery=gallery).json()["class"]
    response = rename(served, "a/b", "  a\u0308 ", gallery=gallery)
    assert (response.status_code, response.json()) == (200, {**before, "label": "\u00e4"})
    assert served.classify(images[0], gallery=gallery).json()["candidates"][0]["label"] == "\u00e4"
    assert served.client.get("/classes/%C3%A4/image", params={"gallery": gallery}).content == images[0]
    assert_problem(served.client.get("/classes/a%2Fb", params={"gallery": gallery}), 404, "class-not-found")
    assert_problem(rename(served, "a/b", "c", gallery=gallery), 404, "class-not-found")


def test_renaming_to_a_taken_label_is_a_conflict(served: Running, gallery: str, images: list[bytes]):
    for label, image in zip("ab", images, strict=False):
        served.enroll(label, image, gallery=gallery)
    assert "'b'" in assert_problem(rename(served, "a", "b", gallery=gallery), 409, "class-exists")["detail"]
    assert served.client.get("/classes/a/image", params={"gallery": gallery}).content == images[0]
    assert rename(served, "a", "a", gallery=gallery).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "problem"),
    [
        (b'{"label": ""}', "application/json", (422, "invalid-request")),
        (b'{"label": 3}', "application/json", (422, "invalid-request")),
        (b'{"label": "b", "lable": "c"}', "application/json", (422, "invalid-request")),
        (b"{}", "application/json", (422, "invalid-request")),
        (b"[]", "application/json", (422, "invalid-request")),
        (b"{", "application/json", (400, "malformed-body")),
        (b'{"label": "\xff"}', "application/json", (400, "malformed-body")),
        (b"", "application/json", (400, "malformed-body")),
        (b'{"label": "b"}', "text/plain", (415, "unsupported-media-type")),
        (b'{"label": "' + b"b" * 20_000 + b'"}', "application/json", (413, "payload-too-large")),
    ],
)
def test_a_wrong_new_label_is_told(served: Running, gallery: str, body: bytes, kind: str, problem: tuple[int, str]):
    served.enroll("a", png_bytes(draw_character(0)), gallery=gallery)
    headers = {"content-type": kind}
    response = served.client.patch("/classes/a", params={"gallery": gallery}, content=body, headers=headers)
    found = assert_problem(response, *problem)
    assert "invalid-request" not in problem or found["errors"][0]["loc"][0] == "body"
    assert served.client.get("/classes/a", params={"gallery": gallery}).status_code == 200


def test_the_map_has_every_class_and_the_distances_of_verification(served: Running, gallery: str, images: list[bytes]):
    for number, image in enumerate(images):
        served.enroll(f"c{number}", image, gallery=gallery)
    found = served.client.get(f"/galleries/{gallery}/map").json()
    assert found["gallery_size"] == len(found["points"]) == len(images)
    assert 0 < found["explained"] <= 1
    for point in found["points"]:
        others = point["neighbours"]
        assert len(others) == 5
        assert point["label"] not in [other["label"] for other in others]
        assert [other["distance"] for other in others] == sorted(other["distance"] for other in others)
    point = found["points"][0]
    number = int(point["label"][1:])
    answer = served.classify(images[number], gallery=gallery, k=2).json()
    assert point["neighbours"][0]["label"] == answer["candidates"][1]["label"]
    assert point["neighbours"][0]["distance"] == pytest.approx(answer["candidates"][1]["distance"], abs=1e-5)
    assert point["neighbours"][0]["similarity"] == pytest.approx(answer["candidates"][1]["similarity"], abs=1e-4)


def test_the_map_of_nothing_is_empty(serve):
    with serve() as server:
        assert server.client.get("/galleries/default/map").json()["points"] == []
        assert_problem(server.client.get("/galleries/other/map"), 404, "gallery-not-found")


def test_galleries_are_apart(served: Running, gallery: str, images: list[bytes]):
    served.enroll("a", images[0], gallery=gallery)
    served.enroll("a", images[1], gallery=f"{gallery}-2")
    served.enroll("b", images[0], gallery=f"{gallery}-2")
    sizes = {item["name"]: item["classes"] for item in served.client.get("/galleries").json()["galleries"]}
    assert (sizes[gallery], sizes[f"{gallery}-2"]) == (1, 2)
    assert served.client.delete(f"/galleries/{gallery}-2").status_code == 204
    assert served.client.get("/classes/a/image", params={"gallery": gallery}).content == images[0]
    assert_problem(served.classify(images[0], gallery=f"{gallery}-2"), 422, "invalid-request")
    assert_problem(served.client.delete(f"/galleries/{gallery}-2"), 404, "gallery-not-found")


def test_each_shot_has_its_image(served: Running, gallery: str, images: list[bytes]):
    for image in images[:3]:
        served.enroll("a", image, gallery=gallery, on_conflict="add")
    address = f"/classes/a/image?gallery={gallery}"
    assert [served.client.get(f"{address}&shot={shot}").content for shot in range(3)] == images[:3]
    assert_problem(served.client.get(f"{address}&shot=3"), 404, "image-not-found")
    assert_problem(served.client.get(f"{address}&shot=-1"), 422, "invalid-request")


def test_times_have_their_zone(served: Running, gallery: str, images: list[bytes]):
    first = served.enroll("a", images[0], gallery=gallery).json()["class"]
    second = served.enroll("a", images[1], gallery=gallery).json()["class"]
    created, updated = (datetime.fromisoformat(second[name]) for name in ("created_at", "updated_at"))
    assert created.tzinfo is not None
    assert second["created_at"] == first["created_at"]
    assert updated > created


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/classes?gallery=nowhere", 404, "gallery-not-found"),
        ("/classes/a?gallery=nowhere", 404, "gallery-not-found"),
        ("/classes/a/image?gallery=nowhere", 404, "gallery-not-found"),
        ("/classes?limit=0", 422, "invalid-request"),
        ("/classes?limit=1001", 422, "invalid-request"),
        ("/classes?gallery=", 422, "invalid-request"),
        ("/classes?search=", 422, "invalid-request"),
        ("/classes?search=a%00b", 422, "invalid-request"),
        (f"/classes?search={257 * 'x'}", 422, "invalid-request"),
        ("/classes?page=2", 422, "invalid-request"),
        ("/classes/a?galery=b", 422, "invalid-request"),
        ("/galleries?x=1", 422, "invalid-request"),
    ],
)
def test_wrong_questions(served: Running, path: str, status: int, slug: str):
    assert_problem(served.client.get(path), status, slug)
