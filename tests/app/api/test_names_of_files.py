"""Labels from file names in undeclared encodings: correct or refused, never garbled."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import httpx
import pytest

from testing.served import Running
from tests.app.api.test_zip_body import send

CASES = os.environ.get("ONESHOT_CASES", "")  # read at import: tests remove all settings from the environment


def renamed(name: bytes, image: bytes, extra: bytes = b"") -> bytes:
    """A zip file whose only entry has this name, without the UTF-8 flag."""
    plain = "x" * len(name)
    info = zipfile.ZipInfo(plain)
    info.extra = extra
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, image)
    return buffer.getvalue().replace(plain.encode(), name)


def unicode_field(name: str, sent: bytes, version: int = 1) -> bytes:
    content = struct.pack("<BI", version, zlib.crc32(sent)) + name.encode()
    return struct.pack("<HH", 0x5455, 1) + b"\0" + struct.pack("<HH", 0x7075, len(content)) + content


RIGHT = [
    ("größe", "größe.png".encode(), b""),  # UTF-8 without the flag, as macOS writes it
    ("東京", "東京.png".encode(), b""),
    ("house", b"house.png", b""),
    ("東京", b"????.png", unicode_field("東京.png", b"????.png")),
    ("größe", "größe.png".encode("cp437"), unicode_field("größe.png", "größe.png".encode("cp437"))),
    ("x", b"x.png", unicode_field("y.png", b"other.png")),  # the field of a name that has changed since
    ("x", b"x.png", unicode_field("y.png", b"x.png", version=2)),
    ("klasse", b"klasse/" + "ファイル.png".encode("shift_jis"), b""),  # the file's name is not the label
]
REFUSED = [("日本", "shift_jis"), ("测试", "gbk"), ("größe", "cp437"), ("größe", "latin-1"), ("тест", "cp1251")]


@pytest.mark.parametrize("case", RIGHT)
def test_a_name_in_a_zip_file_is_read_right(
    served: Running, gallery: str, images: list[bytes], case: tuple[str, bytes, bytes]
):
    label, name, extra = case
    found = send(served, renamed(name, images[0], extra), gallery=gallery).json()
    assert [(item["label"], item["status"]) for item in found["items"]] == [(label, 201)]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("form", ["{}.png", "{}/1.png"])
def test_a_name_in_an_unknown_encoding_is_refused(
    served: Running, gallery: str, images: list[bytes], case: tuple[str, str], form: str
):
    name, encoding = case
    [item] = send(served, renamed(form.format(name).encode(encoding), images[0]), gallery=gallery).json()["items"]
    assert (item["status"], item["problem"], item["label"]) == (422, "invalid-request", None)
    assert "another encoding than UTF-8" in item["detail"]
    assert "\\x" in item["detail"]
    assert served.client.get("/classes", params={"gallery": "default"}).json()["classes"] == []


@pytest.mark.parametrize(("name", "encoding"), REFUSED)
def test_a_name_in_a_form_is_utf8_or_refused(
    served: Running, gallery: str, images: list[bytes], name: str, encoding: str
):
    def form(filename: bytes, field: bytes = b"image") -> httpx.Response:
        head = b'--b\r\nContent-Disposition: form-data; name="' + field + b'"; filename="' + filename + b'"\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        body = head + images[0] + b"\r\n--b--\r\n"
        return served.client.post("/enroll/batch", params={"gallery": gallery}, content=body, headers=headers)

    [good] = form(f"{name}.png".encode()).json()["items"]
    assert (good["label"], good["status"]) == (name, 201)
    [bad] = form(f"{name}.png".encode(encoding)).json()["items"]
    assert (bad["status"], bad["problem"], bad["label"]) == (422, "invalid-request", None)
    assert form(b"x.png", field=name.encode(encoding)).status_code == 422
    answer = served.client.post(
        "/enroll/batch", params={"gallery": gallery}, files={"image": ("x", images[0]), "label": (None, b"\xff")}
    )
    assert answer.json()["items"][0]["status"] == 422


#: The labels of each archive and the number of skipped files; None if a name's encoding can't be determined.
WANTED: dict[str, tuple[dict[str, int] | None, int]] = {
    "zip_03.zip": ({"house": 1}, 4),
    "zip_05.zip": ({"symbols": 2}, 0),
    "zip_07.zip": ({"house": 2}, 0),
    "zip_12.zip": (None, 0),
    "zip_13.zip": (None, 0),
    "zip_14.zip": ({"東京": 1}, 0),
}


@pytest.mark.skipif(not CASES, reason="ONESHOT_CASES names no folder of collected archives")
@pytest.mark.parametrize("name", WANTED)
def test_collected_archives(served: Running, gallery: str, name: str):
    labels, passed_over = WANTED[name]
    found = send(served, (Path(CASES) / "zips" / name).read_bytes(), gallery=gallery).json()
    assert found["passed_over"] == passed_over
    if labels is None:
        assert [(item["label"], item["status"]) for item in found["items"]] == [(None, 422)]
        return
    listed = served.client.get("/classes", params={"gallery": gallery}).json()["classes"]
    assert {each["label"]: each["shots"] for each in listed} == labels
    assert found["failed"] == 0
