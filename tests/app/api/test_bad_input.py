"""Every invalid request gets a clear problem document and changes nothing."""

from __future__ import annotations

import socket
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from testing.factories import draw_character, encode, png_bytes
from testing.served import Running, assert_problem

PNG = png_bytes(draw_character(1))
IMAGE = {"image": ("x.png", PNG)}
BROKEN = PNG[: len(PNG) // 2]

ENROLMENTS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no label": ({"files": IMAGE}, 422, "invalid-request", "label"),
    "empty label": ({"data": {"label": ""}, "files": IMAGE}, 422, "invalid-request", "label"),
    "blank label": ({"data": {"label": " \t "}, "files": IMAGE}, 422, "invalid-request", "label"),
    "label of 300": ({"data": {"label": "x" * 300}, "files": IMAGE}, 422, "invalid-request", "label"),
    "control characters": ({"data": {"label": "a\x00b"}, "files": IMAGE}, 422, "invalid-request", "label"),
    "dots": ({"data": {"label": ".."}, "files": IMAGE}, 422, "invalid-request", "label"),
    "label not UTF-8": (
        {"files": {**IMAGE, "label": (None, b"\xff\xfe")}},
        422,
        "invalid-request",
        "label",
    ),
    "label as a file": ({"files": {**IMAGE, "label": ("l.txt", b"alpha")}}, 422, "invalid-request", "label"),
    "no image": ({"files": {"label": (None, "a")}}, 422, "invalid-request", "image"),
    "image as text": ({"files": {"label": (None, "a"), "image": (None, "x")}}, 422, "invalid-request", "image"),
    "two images": (
        {"files": [("label", (None, "a")), ("image", ("x", PNG)), ("image", ("y", PNG))]},
        422,
        "invalid-request",
        "image",
    ),
    "empty file": ({"data": {"label": "a"}, "files": {"image": ("x.png", b"")}}, 422, "empty-image", "image"),
    "no image at all": (
        {"data": {"label": "a"}, "files": {"image": ("x.png", b"hello world")}},
        415,
        "unsupported-image",
        "image",
    ),
    "truncated": ({"data": {"label": "a"}, "files": {"image": ("x.png", BROKEN)}}, 422, "undecodable-image", "image"),
    "gallery's name": ({"data": {"label": "a", "gallery": "../x"}, "files": IMAGE}, 422, "invalid-request", "gallery"),
    "long gallery": ({"data": {"label": "a", "gallery": "g" * 65}, "files": IMAGE}, 422, "invalid-request", "gallery"),
    "on_conflict": (
        {"data": {"label": "a", "on_conflict": "x"}, "files": IMAGE},
        422,
        "invalid-request",
        "on_conflict",
    ),
    "typo in a field": ({"data": {"label": "a", "galery": "x"}, "files": IMAGE}, 422, "invalid-request", "galery"),
    "typo in the query": (
        {"data": {"label": "a"}, "files": IMAGE, "params": {"galery": "x"}},
        422,
        "invalid-request",
        "galery",
    ),
}


@pytest.mark.parametrize("case", ENROLMENTS)
def test_bad_enrolments_say_what_is_wrong_and_write_nothing(served: Running, case: str):
    request, status, slug, field = ENROLMENTS[case]
    before = served.client.get("/galleries").json()
    problem = assert_problem(served.client.post("/enroll", **request), status, slug)
    assert any(field in error["loc"] for error in problem["errors"]), problem
    assert field in problem["detail"]
    assert served.client.get("/galleries").json() == before


CLASSIFICATIONS: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown gallery": ({"params": {"gallery": "nowhere"}, "files": IMAGE}, 422, "invalid-request"),
    "bad gallery": ({"params": {"gallery": "a/b"}, "files": IMAGE}, 422, "invalid-request"),
    "k of 0": ({"params": {"k": "0"}, "files": IMAGE}, 422, "invalid-request"),
    "k of 101": ({"params": {"k": "101"}, "files": IMAGE}, 422, "invalid-request"),
    "k in words": ({"params": {"k": "five"}, "files": IMAGE}, 422, "invalid-request"),
    "threshold of 2": ({"params": {"threshold": "2"}, "files": IMAGE}, 422, "invalid-request"),
    "threshold nan": ({"params": {"threshold": "nan"}, "files": IMAGE}, 422, "invalid-request"),
    "unknown parameter": ({"params": {"treshold": "0.5"}, "files": IMAGE}, 422, "invalid-request"),
    "json": ({"json": {"image": "x"}}, 415, "unsupported-media-type"),
    "no body": ({}, 415, "unsupported-media-type"),
    "url-encoded form": ({"data": {"image": "x"}}, 415, "unsupported-media-type"),
    "empty raw body": ({"content": b"", "headers": {"content-type": "image/png"}}, 422, "empty-image"),
    "raw garbage": ({"content": b"garbage", "headers": {"content-type": "image/png"}}, 415, "unsupported-image"),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "malformed-body"),
    "not multipart": (
        {"content": b"hello", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        400,
        "malformed-body",
    ),
    "cut multipart": (
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\nabc',
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
        400,
        "malformed-body",
    ),
    "part without a name": (
        {
            "content": b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n",
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
        400,
        "malformed-body",
    ),
}


@pytest.mark.parametrize("case", CLASSIFICATIONS)
def test_bad_classifications(served: Running, case: str):
    request, status, slug = CLASSIFICATIONS[case]
    assert_problem(served.client.post("/classify", **request), status, slug)


VERIFICATIONS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "one image only": ({"files": {"image1": ("x", PNG)}}, 422, "invalid-request", "image2 or label"),
    "both": (
        {"files": {"image1": ("x", PNG), "image2": ("y", PNG)}, "data": {"label": "a"}},
        422,
        "invalid-request",
        "not both",
    ),
    "second is broken": (
        {"files": {"image1": ("x", PNG), "image2": ("y", BROKEN)}},
        422,
        "undecodable-image",
        "image2",
    ),
    "first is missing": ({"files": {"image2": ("y", PNG)}}, 422, "invalid-request", "image1"),
    "unknown label": (
        {"files": {"image1": ("x", PNG)}, "data": {"label": "nobody"}},
        404,
        "class-not-found",
        "nobody",
    ),
    "unknown gallery": (
        {"files": {"image1": ("x", PNG)}, "data": {"label": "a"}, "params": {"gallery": "nowhere"}},
        422,
        "invalid-request",
        "nowhere",
    ),
}


@pytest.mark.parametrize("case", VERIFICATIONS)
def test_bad_verifications(served: Running, case: str):
    request, status, slug, words = VERIFICATIONS[case]
    assert words in assert_problem(served.client.post("/verify", **request), status, slug)["detail"]


def test_embed_names_the_bad_image_among_many(served: Running):
    parts = [("image", ("x", data)) for data in (PNG, PNG, BROKEN, PNG)]
    assert "image[2]" in assert_problem(served.client.post("/embed", files=parts), 422, "undecodable-image")["detail"]


def test_embed_refuses_too_many_images(serve):
    with serve(max_images=3) as server:
        assert server.client.post("/embed", files=[("image", ("x", PNG))] * 3).status_code == 200
        for count in (4, 9):
            parts = [("image", ("x", PNG))] * count
            assert_problem(server.client.post("/embed", files=parts), 413, "too-many-parts")


def test_too_many_pixels_are_refused_before_decoding(serve):
    with serve(max_pixels=105 * 105 - 1) as server:
        problem = assert_problem(server.classify(PNG), 422, "too-many-pixels")
        assert "105x105" in problem["detail"]


def _blanks() -> dict[str, bytes]:
    clear = draw_character(3).convert("RGBA")
    clear.putalpha(0)
    return {
        "white": encode(Image.new("L", (50, 50), 255)),
        "black": encode(Image.new("1", (50, 50), 0)),
        "transparent": encode(clear),
        "16 bits": encode(Image.fromarray(np.full((50, 50), 700, np.uint16))),
        "floats": encode(Image.fromarray(np.full((50, 50), np.nan, np.float32)), "TIFF"),
    }


BLANKS = _blanks()


@pytest.mark.parametrize("name", BLANKS)
def test_a_blank_image_is_no_image_of_anything(served: Running, gallery: str, name: str):
    blank, other = BLANKS[name], encode(Image.new("L", (60, 60), 200))
    assert_problem(served.enroll("x", blank, gallery=gallery), 422, "blank-image")
    assert_problem(served.classify(blank), 422, "blank-image")
    for pair in ((blank, other), (PNG, blank)):
        answer = served.client.post("/verify", files=list(zip(("image1", "image2"), pair, strict=True)))
        assert_problem(answer, 422, "blank-image")
    problem = assert_problem(served.client.post("/embed", files=[("image", PNG), ("image", blank)]), 422, "blank-image")
    assert "image[1]" in problem["detail"]
    batch = served.client.post(
        "/enroll/batch", params={"gallery": gallery}, files=[("image", ("a", PNG)), ("image", ("b", blank))]
    )
    assert [item["problem"] for item in batch.json()["items"]] == [None, "blank-image"]


def test_the_byte_cap_holds_for_a_declared_length(serve):
    with serve(max_upload_bytes=10_000) as server:
        headers = {"content-type": "image/png"}
        assert_problem(
            server.client.post("/classify", content=b"x" * 10_001, headers=headers), 413, "payload-too-large"
        )
        assert_problem(server.classify(b"x" * 20_000), 413, "payload-too-large")
        assert server.classify(PNG).status_code == 200


def test_a_declared_length_above_the_cap_is_answered_before_the_body_comes(serve):
    with serve(max_upload_bytes=10_000) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            head = "POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 10001\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(200).startswith(b"HTTP/1.1 413")


def test_the_byte_cap_holds_while_streaming(serve):
    """A chunked body is cut off near the cap: the server answers although the client never ends the body."""
    with serve(max_upload_bytes=10_000) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            head = (
                "POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/x\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            connection.sendall(head.encode())
            for _ in range(12):
                connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            assert connection.recv(200).startswith(b"HTTP/1.1 413")
        assert server.classify(PNG).status_code == 200


def test_a_stalled_upload_is_answered_at_the_deadline(serve):
    with serve(request_timeout=0.3) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\nabc"
            )
            answer = connection.recv(2000)
        assert answer.startswith(b"HTTP/1.1 504")
        assert b"urn:oneshot:problem:deadline-exceeded" in answer


def test_a_client_that_goes_away_mid_body_harms_nobody(serve):
    with serve() as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\nabc"
            )
        assert server.classify(PNG).status_code == 200
        assert server.client.get("/readyz").status_code == 200


def test_a_flood_of_bytes_is_refused_and_room_comes_back(serve):
    with serve(max_pending_bytes=24_000) as server:
        host, port = server.url.removeprefix("http://").split(":")
        raw = {"content-type": "image/png"}
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = "POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 19000\r\n\r\n"
            slow.sendall(head.encode() + b"x" * 18_000)
            deadline = time.monotonic() + 10
            while server.app.state.room.used < 18_000:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            refused = server.client.post("/classify", content=PNG + b"x" * 4000, headers=raw)
            assert_problem(refused, 503, "overloaded")
            assert refused.headers["retry-after"]
        while server.app.state.room.used:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.client.post("/classify", content=PNG + b"x" * 4000, headers=raw).status_code == 200
        assert server.app.state.room.used == 0
