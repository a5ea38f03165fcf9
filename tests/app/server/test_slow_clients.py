"""Clients that send too slowly or do not read hold few resources for a limited time, and affect no one else."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from PIL import Image

from app.access.attempts import Attempts
from app.api.body.budget import Room
from app.api.peers import KEY_ID, peer
from app.api_key import Scope, make_key
from app.errors import OverloadedError, RateLimitedError
from testing.served import Running, assert_problem

SIDE = 1024
ELSEWHERE = "127.0.0.2"


@pytest.fixture(scope="module")
def large() -> bytes:
    """An image of 3 MB."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """Opens connections with a small receive buffer."""
    with ExitStack() as stack:

        def made(server: Running, source: str = "127.0.0.1") -> socket.socket:
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.bind((source, 0))
            connection.settimeout(20)
            connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            return connection

        yield made


GET_IMAGE = b"GET /classes/large/image HTTP/1.1\r\nHost: localhost\r\n\r\n"


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def send_until_cut_off(connection: socket.socket, data: bytes) -> None:
    """Send `data`, then a line now and then, without reading."""
    connection.setblocking(False)
    sent, end = 0, time.monotonic() + 15
    while time.monotonic() < end:
        with suppress(BlockingIOError):
            sent += connection.send(data[sent : sent + 65_536] or b"\r\n")
        time.sleep(0.001 if sent < len(data) else 0.05)


def test_who_does_not_read_is_cut_off_and_holds_nothing(serve, large: bytes, connect):
    with serve(send_timeout=0.5, request_timeout=20) as server:
        server.enroll("large", large)
        unread = [connect(server) for _ in range(2)]
        for connection in unread:
            connection.sendall(GET_IMAGE)
        until(lambda: server.app.state.answers.used == 2 * len(large))
        assert server.classify(large).status_code == 200
        until(lambda: server.app.state.answers.used == 0, 5)
        for connection in unread:
            with pytest.raises(ConnectionResetError):
                read_all(connection)


@pytest.mark.parametrize("request_", [GET_IMAGE, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000])
def test_the_connection_of_one_that_does_not_read_ends(serve, large: bytes, connect, request_: bytes):
    """Even if it has many small answers."""
    with serve(send_timeout=0.5) as server:
        server.enroll("large", large)
        with pytest.raises(ConnectionError):
            send_until_cut_off(connect(server), request_)


def test_who_reads_slowly_gets_all(serve, large: bytes, connect):
    with serve(send_timeout=5, request_timeout=1) as server:
        server.enroll("large", large)
        connection = connect(server)
        connection.sendall(GET_IMAGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        began, got = time.monotonic(), bytearray()
        while part := connection.recv(32_768):
            got += part
            time.sleep(max(0.0, began + len(got) / 1.5e6 - time.monotonic()))
        assert time.monotonic() - began > 1.5
        assert got.endswith(large)


def test_answers_without_end_are_refused_and_others_get_theirs(serve, large: bytes, connect):
    with serve(max_pending_bytes=11_000_000, send_timeout=2) as server:
        server.enroll("large", large)
        unread = [connect(server) for _ in range(2)]
        for connection in unread:
            connection.sendall(GET_IMAGE)
        until(lambda: server.app.state.answers.used == 2 * len(large))
        refused = server.client.get("/classes/large/image")
        assert_problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"]
        assert server.metric('oneshot_rejections_total{reason="overloaded"}') == 1
        assert server.client.get("/classes/large").status_code == 200, "small answers need no room"
        other = connect(server, ELSEWHERE)
        other.sendall(GET_IMAGE)
        assert other.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: server.app.state.answers.used == 0)
        assert server.client.get("/classes/large/image").content == large


def upload(length: int) -> bytes:
    head = f"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/bmp\r\nContent-Length: {length}\r\n\r\n"
    return head.encode()


def test_a_body_that_stalls_is_given_up_before_its_time(serve, large: bytes, connect, monkeypatch):
    monkeypatch.setattr("app.api.body.uploads.RATE_SECONDS", 0.5)
    with serve(upload_timeout=20, upload_rate=10_000) as server:
        connection = connect(server)
        began = time.monotonic()
        connection.sendall(upload(len(large)) + large[:-1])
        answer = connection.recv(4000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"less than 10000 bytes a second" in answer
        assert time.monotonic() - began < 5


def test_a_body_that_drips_below_the_rate_is_given_up(serve, connect, monkeypatch):
    monkeypatch.setattr("app.api.body.uploads.RATE_SECONDS", 0.5)
    with serve(upload_rate=1000) as server:
        connection = connect(server)
        connection.sendall(upload(100_000))
        began = time.monotonic()
        connection.settimeout(0.01)
        while time.monotonic() - began < 10:
            connection.sendall(b"x")
            try:
                assert connection.recv(4000).startswith(b"HTTP/1.1 408")
                break
            except TimeoutError:
                continue
        assert 0.4 < time.monotonic() - began < 5


def test_a_body_that_is_slow_but_fast_enough_is_taken(serve, large: bytes, connect, monkeypatch):
    monkeypatch.setattr("app.api.body.uploads.RATE_SECONDS", 0.2)
    with serve(upload_rate=1000) as server:
        connection = connect(server)
        connection.sendall(upload(len(large)))
        pieces = [large[place : place + 300_000] for place in range(0, len(large), 300_000)]
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.1)
        assert connection.recv(4000).startswith(b"HTTP/1.1 200")


def test_stalled_uploads_leave_room_for_others(serve, large: bytes, connect):
    with serve(max_pending_bytes=12_000_000, upload_timeout=5) as server:
        stalled = [connect(server) for _ in range(10)]
        for connection in stalled:
            connection.setblocking(False)
            head = upload(len(large))
            connection.send(head)
        sent, end = dict.fromkeys(stalled, 0), time.monotonic() + 3
        while time.monotonic() < end and server.app.state.room.used < 8_000_000:
            for connection in stalled:
                try:
                    sent[connection] += connection.send(large[sent[connection] : -1])
                except (BlockingIOError, ConnectionError):
                    continue
        assert server.app.state.room.used <= 9_000_000, "three quarters"
        other = connect(server, ELSEWHERE)
        other.sendall(upload(len(large)) + large)
        assert other.recv(4000).startswith(b"HTTP/1.1 200")


def scope(address: str = "10.0.0.1", **state: str) -> dict[str, object]:
    return {"client": (address, 5), "state": state}


def test_a_client_holds_three_quarters_of_what_others_leave():
    room = Room(1000)
    first, again = scope(), scope()
    room.take(first, 700)
    room.take(again, 50)
    with pytest.raises(OverloadedError):
        room.take(again, 1)
    other = scope("10.0.0.2")
    room.take(other, 187)
    with pytest.raises(OverloadedError):
        room.take(other, 1)
    room.take(scope("10.0.0.1", **{KEY_ID: "key"}), 40)
    assert room.used == 977
    room.leave(first)
    room.leave(first)
    assert room.used == 277
    room.take(again, 500)
    for each in (again, other):
        room.leave(each)
    assert room.used == 40


@pytest.mark.parametrize(
    ("address", "same"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::2"), ("fe80::1%eth0", "fe80::2%eth0"), ("odd:", "odd:")],
)
def test_an_ipv6_network_is_one_peer(address: str, same: str):
    assert peer(scope(address)) == peer(scope(same))
    assert peer(scope(address)) != peer(scope("2001:db8:1::1"))


def test_wrong_keys_are_throttled_by_address():
    now = 0
    attempts = Attempts(lambda: now)
    for _ in range(20):
        attempts.failed("a")
    with pytest.raises(RateLimitedError) as refused:
        attempts.failed("a")
    assert refused.value.retry_after == 3
    attempts.failed("b")
    now = 3 * 10**9
    attempts.failed("a")
    with pytest.raises(RateLimitedError):
        attempts.failed("a")
    now = 1000 * 10**9
    for _ in range(20):
        attempts.failed("a")


def test_the_table_of_addresses_is_bounded():
    attempts = Attempts()
    for number in range(10_000):
        attempts.failed(str(number))
    assert len(attempts) <= 4096


def test_wrong_keys_end_in_429_and_the_right_one_still_opens(serve):
    with serve(api_keys="on") as server:
        key, right = make_key("x", frozenset({Scope.READ}), None)
        server.service.store.keys.add(key)
        wrong = {"X-API-Key": "osk_000000000000_" + "A" * 43}
        statuses = [server.client.get("/classes", headers=wrong).status_code for _ in range(25)]
        assert statuses[:20] == [401] * 20
        assert statuses[-1] == 429
        refused = server.client.get("/classes", headers=wrong)
        assert_problem(refused, 429, "rate-limited")
        assert int(refused.headers["retry-after"]) >= 1
        assert server.client.get("/classes", headers={"X-API-Key": right}).status_code == 200
        assert server.client.get("/classes").status_code == 401, "no key is no wrong key"
