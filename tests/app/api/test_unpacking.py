"""Bodies that decompress to many times their size: memory stays bounded and the event loop responsive."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.api.body.json_lines import Lines, parse_lines
from testing.growth import peak
from testing.hostile import drawing, encoded, image_lines, white_picture, zip_bomb
from testing.processes import Server
from testing.served import Running

GOOD = encoded(drawing(), "PNG")
ZIP, NDJSON = ({"Content-Type": f"application/{kind}"} for kind in ("zip", "x-ndjson"))
MB = 2**20
#: Default of ONESHOT_MAX_PENDING_BYTES: what uploads may hold at once.
ROOM_MB = 96


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _gif_with_a_comment() -> bytes:
    gif = encoded(drawing(), "GIF")
    place = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    return gif[:place] + b"\x21\xfe" + (b"\xff" + b" " * 255) * 40_000 + b"\0" + gif[place:]


@pytest.fixture(scope="module")
def server(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("home") / "home", artifact) as started:
        yield started.ready()


class Watch:
    """Polls `/livez` and classifies a valid image in the background; records the slowest answer and the statuses."""

    def __init__(self, url: str) -> None:
        self.slowest = 0.0
        self.answers: Counter[int] = Counter()
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._classify)

    def _classify(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                self.answers[client.post("/classify", files={"image": ("x.png", GOOD)}).status_code] += 1
                time.sleep(0.02)

    def __enter__(self) -> Watch:
        command = [sys.executable, "-c", _ASK, self._url.rpartition("/")[2]]
        self._asking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._asking.stdout is not None
        self._asking.stdout.read(1)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.slowest = float(self._asking.communicate()[0])


#: In a separate process, because a client that sends megabytes cannot measure time accurately.
_ASK = """
import http.client, select, sys, time
connection, slowest = http.client.HTTPConnection(sys.argv[1]), 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    began = time.perf_counter()
    connection.request("GET", "/livez")
    assert connection.getresponse().read() is not None
    if not slowest:
        print(".", end="", flush=True)
        began = time.perf_counter()
    slowest = max(slowest, time.perf_counter() - began)
print(slowest)
"""


def send(url: str, body: bytes, headers: dict[str, str], **query: str) -> httpx.Response:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        return client.post("/enroll/batch", content=body, headers=headers, params=query)


@pytest.mark.parametrize("what", ["zeros", "good images"])
def test_sixty_zip_files_that_unpack_to_four_gigabytes(server: Server, what: str):
    content = white_picture() if what == "good images" else bytes(MB)
    body = zip_bomb(content, 60)
    assert len(body) < 100_000
    before = peak(server.process.pid)
    with Watch(server.url) as watch, ThreadPoolExecutor(60) as pool:
        answers = Counter(pool.map(lambda _: send(server.url, body, ZIP, gallery="zip").status_code, range(60)))
    grown = peak(server.process.pid) - before
    assert set(answers) <= {200, 503, 504}, answers
    assert answers[200] > 0
    assert grown < 3 * ROOM_MB, f"{grown:.0f} MB more"
    assert watch.answers.total() == watch.answers[200] > 0, watch.answers
    if what == "zeros":  # their content is not kept
        assert answers[504] == 0


HOSTILE_LINES = {
    "one string": b'{"label": "a", "image": "' + b"A" * (60 * MB) + b'"}',
    "one list": b"[" + b"0," * (30 * MB) + b"0]",
    "many numbers in a line": b"\n".join([b'{"label": [' + b"0," * (5 * MB) + b'0], "image": ""}'] * 5),
    "images": image_lines(60, 700_000),
    "blank lines": b"\n" * (60 * MB),
}


@pytest.mark.parametrize("name", HOSTILE_LINES)
def test_sixty_megabytes_of_lines(server: Server, name: str):
    body = HOSTILE_LINES[name]
    before = peak(server.process.pid)
    for _ in range(6):  # a blocked event loop shows every time, a busy CPU does not
        with Watch(server.url) as watch:
            answer = send(server.url, body, NDJSON, gallery="lines")
        if watch.slowest < 0.1:
            break
    assert answer.status_code == (422 if name == "blank lines" else 200), answer.text[:500]
    grown = peak(server.process.pid) - before
    assert grown < 2 * ROOM_MB, f"{grown:.0f} MB more"
    assert watch.slowest < 0.1, f"/livez took {1000 * watch.slowest:.0f} ms"
    if name == "images":
        assert answer.json()["enrolled"] == 60
    elif name != "blank lines":
        assert answer.json()["enrolled"] == 0


@pytest.mark.parametrize("name", HOSTILE_LINES)
def test_each_step_on_the_event_loop_is_short(name: str):
    body, lines = HOSTILE_LINES[name], Lines(10 * MB)
    longest = 0.0
    for start in range(0, len(body), 65_536):
        chunk = body[start : start + 65_536]
        began = time.thread_time()  # CPU time: other load on the machine does not count
        ended = lines.feed(chunk)
        longest = max(longest, time.thread_time() - began)
        for line in ended:  # runs in a thread, but a C call that holds the GIL still blocks the loop
            began = time.thread_time()
            parse_lines([line], 0, 10 * MB)
            longest = max(longest, time.thread_time() - began)
    assert longest < 0.05


#: Valid images with headers that take long to read.
LONG_HEADERS = {
    "PGM with a comment of 10 MB": b"P5\n#" + b" " * (10 * MB - 9_000) + b"\n40 40\n255\n" + bytes(1600),
    "PNG with a text that inflates": GOOD[:33] + _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**9), 9)) + GOOD[33:],
    "PNG with a million chunks": GOOD[:33] + _chunk(b"tEXt", b"k\0") * 600_000 + GOOD[33:],
    "GIF with a comment of 10 MB": _gif_with_a_comment(),
}


@pytest.mark.parametrize("name", LONG_HEADERS)
def test_headers_are_read_off_the_event_loop(server: Server, name: str):
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        for _ in range(6):  # see above
            with Watch(server.url) as watch:
                answer = client.post("/enroll", data={"label": "x"}, files={"image": ("x", LONG_HEADERS[name])})
            if watch.slowest < 0.1:
                break
    assert answer.status_code in ({422} if name.startswith("PGM") else {200, 201}), answer.text
    assert watch.slowest < 0.1, f"/livez took {1000 * watch.slowest:.0f} ms"


def test_work_stops_when_the_client_goes(served: Running, gallery: str):
    body = zip_bomb(white_picture(), 60)
    head = f"POST /enroll/batch?gallery={gallery} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
    address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while not (room := served.app.state.room).used > len(body) + MB:  # until unpacking has begun
            time.sleep(0.001)
        # reset the connection: a client that only closed its sending side might still read the answer
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + 20
    gone = 'oneshot_requests_total{method="POST",route="/enroll/batch",status="499"}'
    while not served.metric(gone):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert room.used == 0
    assert gallery not in {each["name"] for each in served.client.get("/galleries").json()["galleries"]}
