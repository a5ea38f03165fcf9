"""NDJSON bodies with an image per line: split correctly however they arrive, and parsed as JSON."""

from __future__ import annotations

import base64
import json
import random

import pytest

from app.api.body.json_lines import Lines, parse_lines
from app.errors import OneshotError

IMAGE = bytes(range(256)) * 40
BASE64 = base64.b64encode(IMAGE).decode()
MOST = 100_000


def parsed(line: bytes) -> tuple[str, bytes] | str:
    [found] = parse_lines([line], 0, MOST)
    return f"{found.slug}: {found.detail}" if isinstance(found, OneshotError) else found


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"label": "a", "image": BASE64}).encode(),
        json.dumps({"image": BASE64, "label": "a"}, indent=None, separators=(" , ", " : ")).encode(),
        b'\xef\xbb\xbf{"label":"a","image":"%b"}\r' % BASE64.encode(),
        json.dumps({"label": "a", "image": BASE64}).replace("/", "\\/").encode(),
        json.dumps({"label": "a", "image": BASE64}).replace("+", "\\u002B").encode(),
    ],
)
def test_every_way_to_write_a_line(line: bytes):
    assert parsed(line) == ("a", IMAGE)


@pytest.mark.parametrize("label", ["image", '"image": "x', '\\"image\\": \\"', "\u2028", "a" * 256, "🙂" * 256])
def test_labels_that_look_like_the_image(label: str):
    for keys in (("label", "image"), ("image", "label")):
        line = json.dumps({key: label if key == "label" else BASE64 for key in keys})
        assert parsed(line.encode()) == (label, IMAGE)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"label": "a", "image": "AA==AAAA"}', "no Base64"),
        ('{"label": "a", "image": "A"}', "no Base64"),
        ('{"label": "a", "image": "AAAA\\"}', "line 1"),
        ('{"label": "a", "image": "AAAA", "image": "BBBB"}', "each there once"),
        ('{"label": "a", "image": null}', "must be strings"),
        ('{"label": "a", "images": "AAAA"}', "keys label and image"),
        ('{"label": ["image"], "image": "AAAA"}', "must be strings"),
        ('{"label": 7, "image": "AAAA"}', "must be strings"),
        (f'{{"label": {"9" * 4301}, "image": "AAAA"}}', "must be strings"),
        ('{"a\\"image": "AAAA", "label": "x"}', "keys label and image"),
        ('"image": "AAAA"', "line 1"),
        ("[" * 16_000, "line 1"),
        (f'{{"label": "{"a" * 20_000}", "image": "AAAA"}}', "besides the image"),
        (f'{{"label": "a", "image": "AAAA", "x": "{"a" * 20_000}"}}', "besides the image"),
        ('{"label": "a", "image": ""}', "empty-image"),
        (f'{{"label": "a", "image": "{"AAAA" * 40_000}"}}', "payload-too-large"),
    ],
)
def test_what_is_wrong_is_said(line: str, why: str):
    found = parsed(line.encode())
    assert isinstance(found, str)
    assert why in found
    assert len(found) < 200


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_told_apart_however_they_come_in(seed: int):
    chance = random.Random(seed)
    wanted = [chance.choice([b"x", b" y ", b"z" * chance.randrange(1, 300)]) for _ in range(chance.randrange(40))]
    blank = [b"\n", b"\n\n", b"\n \r\n", b"\n" * 50]
    body = b"".join(line + chance.choice(blank) for line in wanted) or b"\n \n"
    if wanted and chance.random() < 0.5:
        body = body.rstrip(b"\r\n")
    lines, found = Lines(MOST), list[bytes | None]()
    while body:
        length = chance.randrange(1, 100)
        found += lines.feed(body[:length])
        body = body[length:]
    found += lines.finish()
    assert [line.strip() for line in found if line is not None] == [line.strip() for line in wanted]
    assert lines.count == len(wanted)


def test_of_a_line_that_is_too_long_nothing_is_held():
    lines = Lines(1000)
    assert lines.feed(b"a" * 20_000) == []
    assert lines.held == 0
    assert lines.feed(b"a" * 20_000 + b"\nshort\n" + b"b" * 50_000 + b"\nend") == [None, b"short", None]
    assert lines.finish() == [b"end"]
    assert lines.count == 4
