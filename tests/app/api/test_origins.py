"""Pages of other sites can neither change nor read data of a service without keys."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from app.api.origins import Hosts
from testing.served import Running, assert_problem, make_settings

HERE = ("127.0.0.1", 8000)
EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.fixture(scope="module")
def port(served: Running) -> int:
    return int(served.url.rpartition(":")[2])


def hosts(**settings: str) -> Hosts:
    return Hosts(make_settings(**settings))


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.9.9.9", "[::1]:80"]
)
def test_the_loopback_is_always_a_host(name: str):
    assert hosts().include(name.encode(), HERE)
    assert hosts(host=EVERYWHERE).include(name.encode(), ("172.17.0.2", 8000))


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "ü", "10.0.0.7"],
)
def test_other_names_are_no_hosts(name: str):
    assert not hosts().include(name.encode("latin-1"), HERE)


def test_the_address_of_the_connection_and_the_name_listened_on_are_hosts():
    assert hosts(host="10.0.0.7").include(b"10.0.0.7:8000", ("10.0.0.7", 8000))
    assert not hosts(host="10.0.0.7").include(b"10.0.0.8:8000", ("10.0.0.7", 8000))
    assert hosts(host="lab.example").include(b"Lab.Example:8000", ("10.0.0.7", 8000))
    assert hosts(host="::1").include(b"[::1]:8000", ("::1", 8000))


@pytest.mark.parametrize("address", [EVERYWHERE, "::"])
def test_on_all_addresses_every_address_is_a_host_and_no_name(address: str):
    everywhere = hosts(host=address)
    assert everywhere.include(b"192.168.1.5:8000", ("172.17.0.2", 8000))
    assert everywhere.include(b"[fd00::5]:8000", ("172.17.0.2", 8000))
    assert not everywhere.include(b"evil.example:8000", ("172.17.0.2", 8000))


def test_a_setting_names_further_hosts():
    assert hosts(allowed_hosts="lab.example, two.example:8000").include(b"two.example", HERE)
    assert not hosts(allowed_hosts="lab.example").include(b"two.example", HERE)
    assert hosts(allowed_hosts="*").include(b"evil.example", HERE)


READS = (("GET", "/classes"), ("GET", "/metrics"), ("GET", "/"), ("GET", "/openapi.json"), ("DELETE", "/galleries/g"))


@pytest.mark.parametrize(("method", "path"), READS)
def test_nothing_is_told_under_a_foreign_name(served: Running, method: str, path: str):
    answer = served.client.request(method, path, headers={"Host": "evil.example"})
    assert "ONESHOT_ALLOWED_HOSTS" in assert_problem(answer, 421, "misdirected-request")["detail"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_probes_answer_under_any_name_and_without_one(served: Running, port: int):
    for path in ("/livez", "/readyz"):
        assert served.client.get(path, headers={"Host": "10.1.2.3:8000"}).status_code == 200
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert connection.recv(4000).startswith(b"HTTP/1.1 200")


def test_two_hosts_must_both_be_right(served: Running, port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /classes HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(4000).startswith(b"HTTP/1.1 421")


def attempts(server: Running, image: bytes, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Every kind of write, and the reads that a form of a foreign page could send."""
    files = {"image": ("x.png", image)}
    ask = server.client.request
    yield ask("POST", "/enroll", data={"label": "a", "gallery": "foreign"}, files=files, headers=headers)
    yield ask("POST", "/enroll/batch?gallery=foreign", files={"image": ("a.png", image)}, headers=headers)
    yield ask("POST", "/classify", content=image, headers={**headers, "Content-Type": "image/png"})
    yield ask("PATCH", "/classes/own?gallery=kept", json={"label": "b"}, headers=headers)
    yield ask("DELETE", "/classes/own?gallery=kept", headers=headers)
    yield ask("DELETE", "/galleries/kept", headers=headers)
    yield ask("POST", "/models/rollback", headers=headers)


FOREIGN = {
    "another site": {"Origin": "https://evil.example"},
    "no origin of its own": {"Origin": "null"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "the browser says so": {"Sec-Fetch-Site": "cross-site"},
    "another port, as the browser says": {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    "an empty origin": {"Origin": ""},
}


@pytest.mark.parametrize("who", FOREIGN)
def test_foreign_pages_change_nothing(served: Running, images: list[bytes], who: str):
    served.enroll("own", images[0], gallery="kept")
    for answer in attempts(served, images[0], FOREIGN[who]):
        assert_problem(answer, 403, "foreign-origin")
    assert served.client.get("/classes", params={"gallery": "foreign"}).status_code == 404
    assert [each["label"] for each in served.client.get("/classes?gallery=kept").json()["classes"]] == ["own"]


def test_own_pages_and_programs_may_change(served: Running, images: list[bytes], port: int):
    own: tuple[dict[str, str], ...] = (
        {},
        {"Origin": f"http://127.0.0.1:{port}"},
        {"Origin": "https://localhost:9", "Host": "localhost:9"},
        {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://lab.example", "Sec-Fetch-Site": "same-origin"},  # behind a proxy that rewrites Host
        {"Sec-Fetch-Site": "none"},
    )
    for headers in own:
        answer = served.client.post(
            "/enroll", data={"label": "a", "gallery": "own"}, files={"image": ("x", images[0])}, headers=headers
        )
        assert answer.status_code in {200, 201}, headers


def test_sites_that_are_set_may_change(serve, images: list[bytes]):
    with serve(cors_origins="https://lab.example") as server:
        files = {"image": ("x", images[0])}
        for origin, status in (
            ("https://lab.example", 200),
            ("http://lab.example", 403),
            ("https://evil.example", 403),
        ):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            assert server.client.post("/classify", files=files, headers=headers).status_code == status, origin


def test_with_keys_a_name_and_an_origin_open_nothing_and_close_nothing(serve):
    with serve(api_keys="on") as server:
        headers = {"Host": "lab.example", "Origin": "https://other.example"}
        assert_problem(server.client.delete("/galleries/g", headers=headers), 401, "unauthorized")
        assert server.client.get("/", headers=headers).status_code == 200
