"""The attacks of `benchmarks.siege`, each by one client that sends what costs a server most per byte."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from testing.hostile import (
    black_png,
    drawing,
    encoded,
    image_lines,
    many_scans,
    white_picture,
    zip_bomb,
)  # fmt: skip

#: A class with a large image in the default gallery of each attacked server.
LABEL = "large"
#: Longer than the server's limit for any request.
_SECONDS = 90
_LITTLE = 8192
_PNG = encoded(drawing(), "PNG")


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def status(self, address: str) -> int:
        """Send it over a new connection and return the status of the answer. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection(address, timeout=_SECONDS)
        try:
            connection.request(self.method, self.target, self.body, dict(self.headers))
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@dataclass(frozen=True)
class Attack:
    """An attack and its pass criteria.

    `strike` attacks the server at an address and counts the outcomes of its requests, complete when it exits. `right`
    are the acceptable outcomes. `good` is a legitimate request of the same kind, which a recovered server answers with
    200. The server may use `most_mb` more memory than when idle.
    """

    what: str
    fault: str
    right: frozenset[str]
    good: Request
    most_mb: int
    strike: Callable[[str], AbstractContextManager[Counter[str]]]


def _posted(target: str, body: bytes, kind: str) -> Request:
    return Request("POST", target, {"Content-Type": kind}, body)


def _classified(image: bytes) -> Request:
    return _posted("/classify", image, "application/octet-stream")


def _sent(requests: Sequence[Request], at_once: int) -> Callable[[str], AbstractContextManager[Counter[str]]]:
    """A strike that sends all requests, `at_once` at a time, and waits for the answers."""

    @contextmanager
    def strike(address: str) -> Iterator[Counter[str]]:
        def outcome(request: Request) -> str:
            try:
                return str(request.status(address))
            except (OSError, http.client.HTTPException):
                return "lost"

        with ThreadPoolExecutor(at_once) as pool:
            yield Counter(pool.map(outcome, requests))

    return strike


def _unread(connections: int) -> Callable[[str], AbstractContextManager[Counter[str]]]:
    """A strike of clients that request the large image and read nothing while it lasts."""

    @contextmanager
    def strike(address: str) -> Iterator[Counter[str]]:
        host, port = address.split(":")
        outcomes = Counter[str]()
        with ExitStack() as stack:
            made = [stack.enter_context(socket.socket()) for _ in range(connections)]
            for connection in made:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE)
                connection.settimeout(_SECONDS)
                connection.connect((host, int(port)))
                connection.sendall(f"GET /classes/{LABEL}/image HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            yield outcomes
            outcomes.update(_what_came(connection) for connection in made)

    return strike


def _what_came(connection: socket.socket) -> str:
    """The outcome of a connection: a 503, cut off by the server, still held, or lost."""
    came = b""
    connection.settimeout(_SECONDS)
    try:
        while part := connection.recv(65_536):
            came += part
            if came.startswith(b"HTTP/1.1 503"):
                return "503"
    except ConnectionError:
        return "cut off"
    except TimeoutError:
        return "held"
    return "cut off" if came.startswith(b"HTTP/1.1 200") else "lost"


def _foreign_pages(rounds: int) -> list[Request]:
    """Requests that a browser can be made to send by another site, or by a DNS name rebound to this server."""
    pages: tuple[dict[str, str], ...] = (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    )
    enrol = urlencode({"label": "theirs"})
    acts = (
        ("POST", "/enroll", "application/x-www-form-urlencoded", enrol.encode()),
        ("POST", "/enroll/batch", "text/plain", b"{}"),
        ("POST", "/classify", "text/plain", _PNG),
        ("PATCH", f"/classes/{LABEL}", "application/json", b'{"label": "theirs"}'),
        ("DELETE", f"/classes/{LABEL}", "text/plain", b""),
        ("DELETE", "/galleries/default", "text/plain", b""),
        ("POST", "/models/rollback", "text/plain", b""),
    )
    reads = ("/", "/classes", f"/classes/{LABEL}/image", "/galleries", "/metrics", "/openapi.json")
    requests = [Request(act[0], act[1], {**page, "Content-Type": act[2]}, act[3]) for page in pages for act in acts]
    requests += [Request("GET", path, page) for page in pages if "Host" in page for path in reads]
    return requests * rounds


def large_image() -> bytes:
    """An image of 9.5 MB."""
    noise = np.random.default_rng(0).integers(128, 255, (1780, 1780, 3), np.uint8)
    noise[400:1300, 800:1000] = 0
    return encoded(Image.fromarray(noise), "BMP")


def _refused_or_taken(*more: str) -> frozenset[str]:
    return frozenset({"200", "503", *more})


def _of_images(what: str, fault: str, image: bytes, count: int, *refused: str) -> Attack:
    """An attack that sends one image repeatedly, 16 at once."""
    right = frozenset({"503", *refused})
    what = f"{count} {what}, {len(image) // 1024} KiB, 16 at once"
    return Attack(what, fault, right, _classified(_PNG), 200, _sent([_classified(image)] * count, 16))


def attacks(size: float = 1.0) -> Iterator[tuple[str, Attack]]:
    """Yield every attack with its name; `size` scales it relative to the attacks on the page."""

    def some(count: int) -> int:
        return max(2, round(count * size))

    pages = _foreign_pages(some(20))
    yield (
        "pages",
        Attack(
            f"{len(pages):,} requests of hostile pages, by their Origin, Sec-Fetch-Site and Host",
            "request of a foreign page or name",
            frozenset({"403", "421"}),
            _classified(_PNG),
            100,
            _sent(pages, 16),
        ),
    )
    image = Request("GET", f"/classes/{LABEL}/image", {})
    yield (
        "readers",
        Attack(
            f"{some(100)} connections that ask for an image of 9.5 MB and read nothing",
            "reader that never reads",
            frozenset({"503", "cut off"}),
            image,
            300,
            _unread(some(100)),
        ),
    )
    scans = many_scans((2000, 2000), 30_000)
    yield (
        "scans",
        _of_images(
            "progressive JPEGs of 30,000 scans and 4 megapixels", "JPEG of 30,000 scans", scans, some(64), "422"
        ),
    )
    for name, content in (("good images", white_picture()), ("zeros", bytes(2**20))):
        body, count = zip_bomb(content, 60), some(60)
        yield (
            f"zips of {name}",
            Attack(
                f"{count} zip files of {len(body) // 1024} KiB at once, each of 60 files of 1 MiB, {name}",
                "zip file that unpacks to 60 MiB",
                _refused_or_taken("504"),
                _posted("/enroll/batch?gallery=good", zip_bomb(_PNG, 1), "application/zip"),
                300,
                _sent([_posted("/enroll/batch?gallery=theirs", body, "application/zip")] * count, count),
            ),
        )
    lines, count = image_lines(60, 700_000), some(8)
    yield (
        "lines",
        Attack(
            f"{count} NDJSON bodies of {len(lines) // 2**20} MiB at once, each of 60 images",
            "NDJSON body of 60 images",
            _refused_or_taken("504", "408"),
            _posted("/enroll/batch?gallery=good", image_lines(1, 0), "application/x-ndjson"),
            300,
            _sent([_posted("/enroll/batch?gallery=theirs", lines, "application/x-ndjson")] * count, count),
        ),
    )
    shape = "1 x 39,900,000 pixels"
    yield "tall", _of_images(f"PNG images of {shape}", f"PNG of {shape}", black_png(1, 39_900_000), some(64), "422")
