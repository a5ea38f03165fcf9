"""A zip file as a batch: labels from folders or names, a status per file, and limits on archives."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Sequence

import httpx
import pytest

from app.api.body.blocks import Blocks
from app.api.body.zip_body import ZipArchive
from app.errors import OneshotError, PayloadTooLargeError, TooManyPartsError
from testing.served import Running, assert_problem


def zip_of(files: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def send(server: Running, body: bytes, **query: str) -> httpx.Response:
    headers = {"Content-Type": "application/zip"}
    return server.client.post("/enroll/batch", params=query, content=body, headers=headers)


def test_labels_are_folders_or_names(served: Running, gallery: str, images: list[bytes]):
    names = ["a.png", "日本.png", "b/front/1.png", "b\\side\\2.png", "c/", ".hidden.png", "__MACOSX/a.png"]
    found = send(served, zip_of(list(zip(names, images, strict=False))), gallery=gallery).json()
    assert found["passed_over"] == 2
    assert [(item["label"], item["status"]) for item in found["items"]] == [
        ("a", 201),
        ("日本", 201),
        ("b", 201),
        ("b", 200),
    ]
    assert served.client.get("/classes/b", params={"gallery": gallery}).json()["shots"] == 2
    assert served.client.get(f"/classes/a/image?gallery={gallery}").content == images[0]


def test_each_file_has_its_status(served: Running, gallery: str, images: list[bytes]):
    body = zip_of([("a.png", images[0]), ("b.png", b""), ("c.jpg", b"no image"), ("d.png", images[1])])
    damaged = bytearray(body)
    place = damaged.index(b"d.png") + 60
    damaged[place] ^= 0xFF
    found = send(served, bytes(damaged), gallery=gallery).json()
    assert [item["status"] for item in found["items"]] == [201, 422, 415, 422]
    assert [item["problem"] for item in found["items"]][1:] == ["empty-image", "unsupported-image", "undecodable-image"]
    assert found["items"][3]["detail"].startswith("d.png: the file can't be unpacked")
    assert (found["enrolled"], found["failed"]) == (1, 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"PK", b"nonsense" * 100, zip_of([("a.png", b"x" * 500)])[:-30]],
    ids=["empty", "magic", "nonsense", "cut"],
)
def test_what_is_no_zip_file_is_malformed(served: Running, body: bytes):
    assert_problem(send(served, body), 400, "malformed-body")


def test_an_empty_zip_file_lacks_an_image(served: Running):
    assert_problem(send(served, zip_of([])), 422, "invalid-request")
    assert_problem(send(served, zip_of([("folder/", b"")])), 422, "invalid-request")


def test_limits_hold_over_http(serve, images: list[bytes]):
    with serve(max_enroll_images=3, max_enroll_bytes=40_000) as server:
        assert send(server, zip_of([(f"{n}.png", images[n]) for n in range(3)])).json()["enrolled"] == 3
        assert_problem(send(server, zip_of([(f"{n}.png", images[n]) for n in range(4)])), 413, "too-many-parts")
        assert_problem(send(server, zip_of([("bomb.png", bytes(10_000_000))])), 413, "payload-too-large")
        assert_problem(send(server, bytes(50_000)), 413, "payload-too-large")
        assert server.service.index.size("default") == 3


def unpacked(content: bytes, max_bytes: int = 10_000, max_files: int = 10) -> list[tuple[str, bytes | OneshotError]]:
    archive = ZipArchive(blocks_of(content), max_bytes, max_files)
    return [(file.name, data) for file, data in zip(archive.files, archive.read(archive.files), strict=True)]


def blocks_of(content: bytes) -> Blocks:
    blocks = Blocks()
    blocks.append(content)
    return blocks


def test_a_bomb_that_lies_about_its_size_is_stopped():
    body = bytearray(zip_of([("bomb.png", bytes(5_000_000))]))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the size in both headers
        struct.pack_into("<I", body, body.index(signature) + offset, 100)
    [(_, found)] = unpacked(bytes(body))
    assert isinstance(found, OneshotError)  # the checksum is not that of the first 100 bytes


def test_files_that_overlap_count_each_time():
    body = zip_of([("a.png", bytes(6_000))])
    start, end = body.index(b"PK\x01\x02"), body.index(b"PK\x05\x06")
    entry, tail = body[start:end], bytearray(body[end:])
    struct.pack_into("<HHI", tail, 8, 5, 5, 5 * len(entry))
    content = body[:start] + 5 * entry + bytes(tail)
    try:
        found = unpacked(content)
    except PayloadTooLargeError:
        return
    assert sum(len(data) for _, data in found if isinstance(data, bytes)) <= 10_000


def test_a_directory_of_very_many_entries_is_not_even_read():
    with pytest.raises(TooManyPartsError):
        unpacked(b"PK\x01\x02" * 100)
    with pytest.raises(TooManyPartsError):
        unpacked(zip_of([(f"{n}/", b"") for n in range(100)]))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_can_take_gigabytes_are_refused(method: int):
    [(name, found)] = unpacked(zip_of([("a.png", b"x" * 100)], method))
    assert isinstance(found, OneshotError)
    assert (name, "not supported" in found.detail) == ("a.png", True)


def test_an_encrypted_file_is_told():
    body = bytearray(zip_of([("a.png", b"x" * 100)]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + offset] |= 1
    [(_, found)] = unpacked(bytes(body))
    assert isinstance(found, OneshotError)
    assert "encrypted" in found.detail


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_is_an_error_of_ours_or_harmless(seed: int):
    chance, body = random.Random(seed), bytearray(zip_of([(f"{n}.png", bytes(range(256))) for n in range(5)]))
    for _ in range(chance.randint(1, 6)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    try:
        found = unpacked(bytes(body[: chance.choice([len(body), chance.randrange(len(body))])]))
    except OneshotError:
        return
    assert all(isinstance(data, bytes | OneshotError) for _, data in found)
