"""Labels and galleries: which names are valid, and that each one can be addressed in a URL."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.names import MAX_LABEL_LENGTH, clean_gallery, clean_label, label_from_path
from testing.served import Running, assert_problem

LABELS = [
    "a",
    "a/b",
    "a/image",
    "image",
    "/image",
    "/",
    "a/",
    "a//b",
    "ελληνικά",
    "漢字",
    "🙂 smile",
    "50%",
    "%2F",
    "%25",
    "a?b#c",
    "a+b c",
    "a&b=c",
    'quo"te',
    "<script>",
    "../etc/passwd",
    "...",
    "x" * MAX_LABEL_LENGTH,
    "漢" * MAX_LABEL_LENGTH,
]


@pytest.mark.parametrize("label", LABELS, ids=[label[:12].encode("unicode_escape").decode() for label in LABELS])
def test_every_label_can_be_enrolled_read_and_deleted(served: Running, gallery: str, images: list[bytes], label: str):
    enrolled = served.enroll(label, images[0], gallery=gallery)
    assert enrolled.status_code == 201
    address = f"/classes/{quote(label, safe='')}"
    where = {"gallery": gallery}
    assert enrolled.headers["location"] == f"{address}?gallery={gallery}"
    assert served.client.get(address, params=where).json()["label"] == label
    assert served.client.get(f"{address}/image", params=where).content == images[0]
    assert served.classify(images[0], gallery=gallery).json()["label"] == label
    assert served.client.delete(address, params=where).status_code == 204
    assert_problem(served.client.get(address, params=where), 404, "class-not-found")


def test_a_label_that_ends_in_image_is_not_the_image_of_another(served: Running, gallery: str, images: list[bytes]):
    where = {"gallery": gallery}
    served.enroll("a", images[0], gallery=gallery)
    served.enroll("a/image", images[1], gallery=gallery)
    assert served.client.get("/classes/a/image", params=where).content == images[0]
    assert served.client.get("/classes/a%2Fimage", params=where).json()["label"] == "a/image"
    assert served.client.get("/classes/a%2Fimage/image", params=where).content == images[1]
    assert served.client.get("/classes/a/image/image", params=where).content == images[1]
    served.client.delete("/classes/a%2fimage", params=where)
    assert [c["label"] for c in served.client.get("/classes", params=where).json()["classes"]] == ["a"]


def test_a_slash_that_was_not_encoded_is_part_of_the_label(served: Running, gallery: str, images: list[bytes]):
    served.enroll("a/b", images[0], gallery=gallery)
    assert served.client.get("/classes/a/b", params={"gallery": gallery}).json()["label"] == "a/b"


def test_composed_and_decomposed_letters_are_one_label(served: Running, gallery: str, images: list[bytes]):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    assert served.enroll(decomposed, images[0], gallery=gallery).json()["class"]["label"] == composed
    assert served.enroll(f"  {composed}\n", images[1], gallery=gallery).status_code == 200
    for form in (composed, decomposed):
        found = served.client.get(f"/classes/{quote(form)}", params={"gallery": gallery})
        assert found.json()["label"] == composed


def test_a_label_that_is_no_utf8_in_a_path(served: Running):
    assert_problem(served.client.get("/classes/%FF"), 422, "invalid-request")


def test_an_empty_label_in_a_path(served: Running):
    for path in ("/classes/", "/classes/%20", "/classes//image"):
        assert_problem(served.client.get(path), 422, "invalid-request")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=MAX_LABEL_LENGTH + 5))
def test_clean_labels_stay_clean_and_survive_a_path(text: str):
    try:
        label = clean_label(text)
    except ValueError:
        assume(False)
    assert clean_label(label) == label
    assert label_from_path(quote(label, safe="")) == label
    assert 1 <= len(label) <= MAX_LABEL_LENGTH
    assert label == unicodedata.normalize("NFC", label)


@pytest.mark.parametrize("name", ["default", "a", "A.b_c-9", "0", "x" * 64])
def test_good_gallery_names(name: str):
    assert clean_gallery(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\n", "x" * 65, "a\x00"])
def test_bad_gallery_names(name: str):
    with pytest.raises(ValueError, match="gallery's name"):
        clean_gallery(name)
