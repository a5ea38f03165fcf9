"""Limits on a connection before a complete request: it may not idle, drip or flood for ever."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterable, Iterator

import httpx
import pytest

from app.server.connections import MAX_HEAD_BYTES
from testing.served import Running

SECONDS = 0.4
REQUEST = b"GET /livez HTTP/1.1\r\nHost: [::1]\r\n\r\n"


@pytest.fixture
def server(serve) -> Iterator[Running]:
    with serve(head_timeout=SECONDS) as running:
        yield running


def connect(server: Running) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """Everything the server sends until it closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def drip(connection: socket.socket, data: Iterable[bytes], pause: float = 0.02) -> tuple[bytes, float]:
    """Send piece by piece until the server closes; returns its answer and the seconds."""
    began = time.monotonic()
    connection.settimeout(pause)
    answer = b""
    for piece in data:
        try:
            connection.sendall(piece)
            if not (part := connection.recv(4000)):
                break
            answer += part
        except TimeoutError:
            continue
        except OSError:  # the server closed the connection during the send
            break
    return answer, time.monotonic() - began


def assert_problem(answer: bytes, status: int, slug: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == (f"urn:oneshot:problem:{slug}", status)
    assert f"x-request-id: {problem['request_id']}".encode() in head


def endless_header() -> Iterator[bytes]:
    yield b"GET /livez HTTP/1.1\r\nHost: [::1]\r\nX-Slow: "
    yield from itertools.repeat(b"a")


def test_a_head_that_drips_in_is_given_up(server: Running):
    with connect(server) as connection:
        answer, seconds = drip(connection, endless_header())
    assert_problem(answer, 408, "upload-timeout")
    assert SECONDS * 0.9 < seconds < SECONDS + 2


@pytest.mark.parametrize("piece", [b"", b"\r\n"])
def test_a_connection_without_a_request_is_closed(server: Running, piece: bytes):
    with connect(server) as connection:
        connection.settimeout(10)
        began = time.monotonic()
        connection.sendall(piece)
        answer = connection.recv(4000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < SECONDS + 2


def test_the_next_head_on_a_kept_connection_is_timed_too(server: Running):
    with connect(server) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(4000).startswith(b"HTTP/1.1 200")
        time.sleep(SECONDS * 1.5)  # idle time is limited by keep-alive, not by this timeout
        answer, seconds = drip(connection, endless_header())
    assert_problem(answer, 408, "upload-timeout")
    assert SECONDS * 0.9 < seconds < SECONDS + 2


def test_a_head_without_end_is_refused(server: Running):
    with connect(server) as connection:
        flood = itertools.chain(
            [b"GET /livez HTTP/1.1\r\nHost: [::1]\r\n"], itertools.repeat(b"X-A: " + b"a" * 1000 + b"\r\n")
        )
        answer, _ = drip(connection, flood, pause=0.001)
    assert_problem(answer, 431, "head-too-large")


@pytest.mark.parametrize("before", [b"", REQUEST])
def test_a_large_head_in_one_piece_is_refused(server: Running, before: bytes):
    with connect(server) as connection:
        connection.sendall(before + REQUEST[:-2] + b"X-A: " + b"a" * 80_000 + b"\r\n\r\n")
        answer = read_all(connection)
    assert_problem(answer[answer.index(b"HTTP/1.1 431") :], 431, "head-too-large")


TRAILERS = {
    "many": b"X-T: aaaaaaaa\r\n" * 20_000,
    "one": b"X-T: " + b"a" * 2_000_000,
    "a name": b"X" * 2_000_000,
    "an extension": b"1;" + b"a" * 2_000_000,
}


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("kind", TRAILERS)
def test_what_follows_a_body_is_limited_as_a_head_is(served: Running, kind: str, answered: bool):
    path = b"/nothing" if answered else b"/classify"
    head = b"POST %s HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    last = b"" if kind == "an extension" else b"0\r\n"
    with connect(served) as connection:
        connection.sendall(head + b"3\r\nabc\r\n" + last)
        if answered:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 404")
        answer, _ = drip(connection, (TRAILERS[kind][at : at + 50_000] for at in itertools.count(0, 50_000)), 0.01)
    assert_problem(answer, 431, "head-too-large")


def test_small_fields_and_extensions_around_a_body_are_no_harm(server: Running, images: list[bytes]):
    chunk = b"%x;name=value\r\n%b\r\n0\r\nX-Sum: 7\r\n\r\n" % (len(images[0]), images[0])
    head = b"POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n"
    with connect(server) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n" + chunk)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 9x\r\n\r\n"])
def test_what_is_no_request_is_a_problem(server: Running, data: bytes):
    with connect(server) as connection:
        connection.sendall(data)
        assert_problem(read_all(connection), 400, "bad-request")


def test_a_client_that_has_ended_its_side_is_answered(server: Running, images: list[bytes]):
    head = (
        f"POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: {len(images[0])}\r\n\r\n"
    )
    for request, count in ((head.encode() + images[0], 1), (REQUEST, 1), ((head.encode() + images[0]) * 3, 3)):
        with connect(server) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection).count(b"HTTP/1.1 200") == count


def test_a_client_that_ends_in_the_middle_is_let_go(server: Running):
    with connect(server) as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\na"
        )
        time.sleep(0.1)
        connection.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - began < 5


def test_a_large_head_within_the_limit_is_fine(server: Running):
    with connect(server) as connection:
        connection.sendall(REQUEST[:-2] + b"X-A: " + b"a" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n")
        assert connection.recv(4000).startswith(b"HTTP/1.1 200")


def test_a_body_may_take_longer_than_a_head(server: Running, images: list[bytes]):
    def body() -> Iterator[bytes]:
        for start in range(0, len(images[0]), len(images[0]) // 4):
            time.sleep(SECONDS / 2)
            yield images[0][start : start + len(images[0]) // 4]

    answer = httpx.post(f"{server.url}/classify", content=body(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200


def test_an_answer_comes_in_one_piece(server: Running):
    with connect(server) as connection:
        for _ in range(20):
            connection.sendall(REQUEST)
            head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}".encode() in head.lower()
            assert body


def test_kept_connections_and_pipelined_requests_go_on(server: Running):
    with connect(server) as connection:
        connection.sendall(REQUEST * 3)
        got = b""
        while got.count(b"HTTP/1.1 200") < 3:
            got += connection.recv(4000)
        for _ in range(3):
            time.sleep(SECONDS / 2)
            connection.sendall(REQUEST)
            assert connection.recv(4000).startswith(b"HTTP/1.1 200")


def test_many_slow_heads_leave_room_for_others(server: Running):
    slow = [connect(server) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-")
        assert server.client.get("/readyz").status_code == 200
        for connection in slow:
            connection.settimeout(10)
            assert_problem(connection.recv(4000), 408, "upload-timeout")
    finally:
        for connection in slow:
            connection.close()


def test_the_rest_of_a_body_that_was_answered_early_is_no_head(serve):
    with serve(max_upload_bytes=1000) as running, connect(running) as connection:
        head = b"POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 300000\r\n\r\n"
        connection.sendall(head)
        got = connection.recv(4000)
        connection.sendall(b"x" * 300_000 + REQUEST)
        while b"alive" not in got and (part := connection.recv(4000)):
            got += part
    assert got.startswith(b"HTTP/1.1 413")
    assert b"HTTP/1.1 431" not in got
    assert b"HTTP/1.1 200" in got, "the next request is answered as ever"
