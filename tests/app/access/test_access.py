"""API keys over HTTP: which scope allows what, what errors reveal, and isolation between galleries."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.api_key import Key, Scope, fits, make_key
from app.cli import cli
from app.pace import Pace
from app.rates import parse_rate
from app.store import STORE_FILE
from testing.factories import draw_character, png_bytes
from testing.processes import Server
from testing.served import Running, assert_problem, make_settings, running

SECRET_IMAGE = png_bytes(draw_character(77))
MINE, OTHER = "mine", "other"
#: Bytes that occur only in the other gallery; no answer to a key for MINE may contain them.
TRACES = (b"hidden-label", b"other-model", SECRET_IMAGE[40:80])


class Guarded:
    """A service that requires keys, with one class in each of two galleries."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.admin = self.key(Scope.ADMIN)
        for gallery, label in ((MINE, "open-label"), (OTHER, "hidden-label")):
            self.ask("POST", "/enroll", self.admin, data={"label": label, "gallery": gallery}, files=image())

    def key(self, *scopes: Scope, galleries: tuple[str, ...] | None = None, **limits: Any) -> str:
        key, text = make_key("test", frozenset(scopes), None if galleries is None else frozenset(galleries), **limits)
        self.server.service.store.keys.add(key)
        return text

    def ask(self, method: str, path: str, key: str | None = None, **request: Any) -> httpx.Response:
        headers = {**request.pop("headers", {}), **({"Authorization": f"Bearer {key}"} if key else {})}
        return self.server.client.request(method, path, headers=headers, **request)


def image() -> dict[str, tuple[str, bytes]]:
    return {"image": ("x.png", SECRET_IMAGE)}


@pytest.fixture(scope="module")
def guarded(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    settings = make_settings(model=artifact, home=tmp_path_factory.mktemp("home"), api_keys="on")
    with running(settings, pace=Pace(key_freshness=0)) as server:
        yield Guarded(server)


def operations(guarded: Guarded) -> list[tuple[str, str]]:
    paths = guarded.server.client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, each in paths.items() for method in each]


def test_without_a_valid_key_nothing_but_probes_and_pages_is_answered(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("app.access.attempts.RATE", parse_rate("10000/minute"))
    key = guarded.key(Scope.ADMIN)
    wrong = [None, "x", "", f"{key}x", key[:-1], key.upper(), "osk_" + "0" * 12 + "_" + "A" * 43]
    for method, path in operations(guarded):
        if path in {"/livez", "/readyz"}:
            assert guarded.ask(method, path).status_code == 200
            continue
        for text in wrong:
            answer = guarded.ask(method, path.format(label="a", name="b"), text)
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/docs", "/redoc", "/openapi.json", "/docs/assets/swagger-ui-bundle.js"):
        assert guarded.ask("GET", path).status_code == 200, path


def test_both_ways_of_sending_a_key(guarded: Guarded):
    key, other = guarded.key(Scope.READ), guarded.key(Scope.READ)
    assert guarded.ask("GET", "/model", headers={"X-API-Key": key}).status_code == 200
    assert guarded.ask("GET", "/model", key, headers={"X-API-Key": key}).status_code == 200
    assert_problem(guarded.ask("GET", "/model", key, headers={"X-API-Key": other}), 401, "unauthorized")
    assert_problem(guarded.ask("GET", f"/model?api_key={key}"), 401, "unauthorized")


def test_scopes(guarded: Guarded):
    read, enrol = guarded.key(Scope.READ), guarded.key(Scope.ENROL)
    enrolment: dict[str, Any] = {"data": {"label": "s", "gallery": "scopes"}, "files": image()}
    assert_problem(guarded.ask("POST", "/enroll", read, **enrolment), 403, "forbidden")
    assert guarded.ask("POST", "/enroll", enrol, **enrolment).status_code == 201
    assert guarded.ask("POST", "/classify?gallery=scopes", read, files=image()).status_code == 200
    assert_problem(guarded.ask("POST", "/classify?gallery=scopes", enrol, files=image()), 403, "forbidden")
    assert_problem(guarded.ask("DELETE", "/galleries/scopes", enrol), 403, "forbidden")
    assert guarded.ask("DELETE", "/galleries/scopes", guarded.admin).status_code == 204


def requests_of_the_other_gallery(path: str, method: str) -> list[tuple[str, dict[str, Any]]]:
    """Requests for an operation, with every way to name the other gallery, and without a gallery."""
    address = path.format(label="hidden-label", name=OTHER)
    names = ["", f"?gallery={OTHER}", f"?gallery={MINE}&gallery={OTHER}", f"?gallery={OTHER}&gallery={MINE}"]
    bodies: list[dict[str, Any]] = [{}]
    if method == "POST":
        pair = {"image1": ("x", SECRET_IMAGE)}
        bodies = [
            {"files": image()},
            {"files": image(), "data": {"label": "hidden-label", "gallery": OTHER}},
            {"files": pair, "data": {"label": "hidden-label"}},
            {"content": SECRET_IMAGE, "headers": {"Content-Type": "image/png"}},
        ]
    elif method == "PATCH":
        bodies = [{"json": {"label": "taken"}}]
    return [(address + name, body) for name in names for body in bodies]


def test_a_key_for_one_gallery_reads_and_changes_nothing_of_another(guarded: Guarded):
    keys = [guarded.key(scope, galleries=(MINE,)) for scope in (Scope.READ, Scope.ENROL, Scope.ADMIN)]
    before = guarded.ask("GET", f"/classes?gallery={OTHER}", guarded.admin).json()
    tried = 0
    for method, path in operations(guarded):
        for key in keys:
            for address, request in requests_of_the_other_gallery(path, method):
                answer = guarded.ask(method, address, key, **request)
                tried += 1
                assert answer.status_code < 500, (method, address, answer.text)
                asked = b" ".join(bytes(name, "utf-8") for name in (address, answer.headers.get("location", "")))
                for trace in TRACES:
                    assert trace not in answer.content or trace in asked, (method, address, answer.text)
                about_other = "{name}" in path or f"gallery={OTHER}" in address
                if about_other and path not in {"/embed", "/model", "/galleries", "/livez", "/readyz", "/enroll"}:
                    assert answer.status_code == 403, (method, address, answer.text)
    assert tried > 100
    assert guarded.ask("GET", f"/classes?gallery={OTHER}", guarded.admin).json() == before
    for key in (keys[0], keys[2]):
        listed = guarded.ask("GET", "/galleries", key).json()["galleries"]
        assert [item["name"] for item in listed] == [MINE]
        assert_problem(guarded.ask("GET", "/metrics", key), 403, "forbidden")
        assert guarded.ask("GET", f"/classes/open-label/image?gallery={MINE}", key).content == SECRET_IMAGE


def test_what_exists_in_another_gallery_is_not_told(guarded: Guarded):
    key = guarded.key(Scope.ADMIN, galleries=(MINE,))
    answers = [guarded.ask("GET", f"/classes/{label}?gallery={OTHER}", key) for label in ("hidden-label", "no-such")]
    nowhere = guarded.ask("GET", "/classes/x?gallery=nowhere", key)
    assert {answer.status_code for answer in (*answers, nowhere)} == {403}
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


def test_names_stay_names(guarded: Guarded):
    """Any text is a valid label and is returned unchanged; gallery names that look like paths, SQL or markup fail."""
    tricks = [
        "../../etc/passwd",
        "'; DROP TABLE classes; --",
        "<script>alert(1)</script>",
        "%2e%2e%2f",
        "{{7*7}}",
        "a\\b",
    ]
    for trick in tricks:
        bad = guarded.ask("POST", "/enroll", guarded.admin, data={"label": "x", "gallery": trick}, files=image())
        assert_problem(bad, 422, "invalid-request")
        made = guarded.ask("POST", "/enroll", guarded.admin, data={"label": trick, "gallery": "tricks"}, files=image())
        assert made.json()["class"]["label"] == trick
        assert made.headers["content-type"] == "application/json"
        read = guarded.ask("GET", made.headers["location"], guarded.admin)
        assert read.json()["label"] == trick
    listed = guarded.ask("GET", "/classes?gallery=tricks", guarded.admin).json()["classes"]
    assert {item["label"] for item in listed} == set(tricks)


def test_answers_carry_what_browsers_need(guarded: Guarded):
    picture = guarded.ask("GET", f"/classes/open-label/image?gallery={MINE}", guarded.admin)
    assert picture.headers["content-type"] == "image/png"
    for answer in (picture, guarded.ask("GET", "/model", guarded.admin), guarded.ask("GET", "/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    docs = guarded.ask("GET", "/docs")
    assert "default-src 'self'" in docs.headers["content-security-policy"]
    for address in re.findall(r'(?:src|href)="([^"]+)"', docs.text):
        assert address.startswith("/"), "nothing from elsewhere"
        assert guarded.ask("GET", address).status_code == 200


def test_limits_of_a_key(guarded: Guarded):
    key = guarded.key(Scope.READ, rate="3/hour")
    assert [guarded.ask("GET", "/model", key).status_code for _ in range(3)] == [200] * 3
    limited = guarded.ask("GET", "/model", key)
    assert_problem(limited, 429, "rate-limited")
    assert 1 <= int(limited.headers["retry-after"]) <= 3600
    assert guarded.ask("GET", "/model", guarded.admin).status_code == 200, "others go on"


def test_a_key_may_not_ask_too_much_at_once(guarded: Guarded):
    key = guarded.key(Scope.READ, concurrency=1)
    host, port = guarded.server.url.removeprefix("http://").split(":")
    head = f"POST /classify HTTP/1.1\r\nHost: [::1]\r\nX-API-Key: {key}\r\nContent-Type: image/png"
    wait_until(lambda: guarded.ask("GET", "/model", key).status_code == 200)  # the service has read the key
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(f"{head}\r\nContent-Length: 900\r\n\r\nabc".encode())
        time.sleep(0.3)  # let the slow request take the only slot before the one below
        wait_until(lambda: guarded.ask("GET", "/model", key).status_code == 429)
    wait_until(lambda: guarded.ask("GET", "/model", key).status_code == 200)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_expired_key_opens_nothing():
    key, text = make_key("x", frozenset({Scope.READ}))
    assert key.valid()
    assert fits(key, text)
    assert not Key(**{**key.__dict__, "expires_at": key.created_at}).valid()
    assert not Key(**{**key.__dict__, "revoked_at": key.created_at}).valid()
    assert text.rpartition("_")[2] not in repr(key)


def test_keys_are_made_rotated_and_revoked_without_a_restart_and_never_logged(tmp_path: Path, artifact: Path):
    home = tmp_path / "home"

    def oneshot(*words: str) -> str:
        done = CliRunner().invoke(cli, ["keys", *words, "--home", str(home)])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    old = oneshot("create", "old", "--scope", "admin")
    with Server(home, artifact, ONESHOT_API_KEYS="on") as server:
        with httpx.Client(base_url=server.ready().url, timeout=30) as client:

            def status(key: str) -> int:
                return client.get("/classes", headers={"Authorization": f"Bearer {key}"}).status_code

            assert status(old) == 200
            new = json.loads(oneshot("create", "new", "--json"))["key"]
            wait_until(lambda: status(new) == 200)
            oneshot("revoke", old.split("_")[1])
            wait_until(lambda: status(old) == 401)
            assert status(new) == 200
        server.stop()
    states = {item["name"]: item["state"] for item in map(json.loads, oneshot("list", "--json").splitlines())}
    assert states == {"old": "revoked", "new": "valid"}
    everything = "".join(server.lines) + oneshot("list") + oneshot("list", "--json")
    stored = b"".join(path.read_bytes() for path in home.glob(f"{STORE_FILE}*"))
    for key in (old, new):
        secret = key.rpartition("_")[2]
        assert secret not in everything
        assert secret.encode() not in stored
    assert any(entry.get("key") == old.split("_")[1] for entry in server.log), "whose request it was is logged"


def test_another_address_needs_keys_or_the_wish_to_have_none():
    everywhere = "0.0.0.0"  # noqa: S104
    for words, fails in ((["--host", everywhere], True), (["--host", everywhere, "--insecure"], False)):
        with socket.create_server((everywhere, 0)) as taken:  # a taken port, so that the start fails in any case
            done = CliRunner().invoke(cli, ["serve", *words, "--port", str(taken.getsockname()[1])])
        assert done.exit_code == 2
        assert ("ONESHOT_API_KEYS=on" in done.stderr) is fails, done.stderr
        assert ("in use" in done.stderr) is not fails


def test_cors_only_for_the_sites_that_are_set(serve):
    origin = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    with serve(cors_origins="https://lab.example, https://two.example") as server:
        allowed = server.client.options("/classify", headers=origin)
        assert allowed.headers["access-control-allow-origin"] == "https://lab.example"
        other = server.client.get("/model", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
    with serve() as server:
        assert "access-control-allow-origin" not in server.client.get("/model", headers=origin).headers


def test_a_slow_body_is_given_up(serve):
    with serve(upload_timeout=0.3) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            head = "POST /classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\n"
            connection.sendall(head.encode())
            stop = threading.Event()

            def drip() -> None:
                while not stop.wait(0.05):
                    connection.sendall(b"x")

            thread = threading.Thread(target=drip)
            thread.start()
            answer = connection.recv(4000)
            stop.set()
            thread.join()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:oneshot:problem:upload-timeout" in answer
