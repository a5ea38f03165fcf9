"""In a real browser, a page of another site can do nothing to the service."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from testing.browser import BOX, FLAGS, find_chromium, stroke_png
from testing.served import Running

_PAGE = b"<!doctype html><title>Foreign</title><form id=form method=post enctype=multipart/form-data></form>"


class _Foreign(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """The URL of another site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Foreign) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://localhost:{site.server_port}/"
        site.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


def enrol_from(page: Page, url: str, label: str, **options: str) -> str:
    """Have the page send an enrolment; returns what it can see of the answer."""
    script = """async ([url, label, image, options]) => {
        const form = new FormData();
        form.append("label", label);
        const bytes = Uint8Array.from(atob(image), c => c.charCodeAt(0));
        form.append("image", new Blob([bytes], {type: "image/png"}), "x.png");
        try {
            const answer = await fetch(url + "/enroll", {method: "POST", body: form, ...options});
            return answer.type === "opaque" ? "opaque" : String(answer.status);
        } catch (error) { return "refused"; }
    }"""
    image = base64.b64encode(stroke_png(BOX)).decode()
    return str(page.evaluate(script, [url, label, image, options]))


def labels(server: Running) -> list[str]:
    return [each["label"] for each in server.client.get("/classes").json()["classes"]]


def test_a_page_of_another_site_cannot_enrol(server: Running, foreign: str, page: Page):
    page.goto(foreign)
    before = labels(server)
    assert enrol_from(page, server.url, "by fetch") == "refused"
    assert enrol_from(page, server.url, "unseen", mode="no-cors") == "opaque"
    page.evaluate(
        """([url, image]) => {
            const form = document.getElementById("form"), files = new DataTransfer();
            form.action = url + "/enroll";
            form.innerHTML = '<input name=label value="by form"><input type=file name=image>';
            const bytes = Uint8Array.from(atob(image), c => c.charCodeAt(0));
            files.items.add(new File([bytes], "x.png", {type: "image/png"}));
            form.lastChild.files = files.files;
        }""",
        [server.url, base64.b64encode(stroke_png(BOX)).decode()],
    )
    with page.expect_navigation() as moved:
        page.evaluate("document.getElementById('form').submit()")
    assert moved.value is not None
    assert moved.value.status == 403
    assert "foreign-origin" in page.content()
    assert labels(server) == before


def test_a_page_of_another_site_cannot_delete_or_read(server: Running, foreign: str, page: Page):
    assert server.enroll("kept", stroke_png(BOX), gallery="coveted").status_code in {200, 201}
    page.goto(foreign)
    ask = """([url, method, mode]) => fetch(url, {method, mode}).then(
        async answer => answer.type + (await answer.text()), () => "refused")"""
    for path in ("/classes/kept?gallery=coveted", "/galleries/coveted"):
        for mode in ("cors", "no-cors"):
            assert page.evaluate(ask, [server.url + path, "DELETE", mode]) == "refused"
    for path in ("/classes?gallery=coveted", "/classes/kept/image?gallery=coveted"):
        assert page.evaluate(ask, [server.url + path, "GET", "cors"]) == "refused"
        assert page.evaluate(ask, [server.url + path, "GET", "no-cors"]) == "opaque"
    assert server.client.get("/classes?gallery=coveted").json()["classes"][0]["label"] == "kept"


def test_a_page_without_an_origin_cannot_enrol(server: Running, foreign: str, page: Page):
    page.goto(foreign)
    page.set_content("<iframe sandbox=allow-scripts src='data:text/html,<p>inner'></iframe>")
    inner = page.frames[1]
    status = inner.evaluate(
        "url => fetch(url, {method: 'POST', mode: 'no-cors'}).then(a => a.type, () => 'none')",
        f"{server.url}/models/rollback",
    )
    assert status == "opaque"
    refused = server.metric('oneshot_rejections_total{reason="foreign-origin"}')
    assert refused >= 1
    assert server.client.get("/galleries").status_code == 200


def test_the_services_own_page_can_enrol_and_delete(server: Running, page: Page):
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        page.goto(f"{url}/")
        assert enrol_from(page, url, "own page") in {"200", "201"}
        deleted = page.evaluate(
            "url => fetch(url + '/classes/own%20page', {method: 'DELETE'}).then(a => a.status)", url
        )
        assert deleted == 204


def test_a_rebound_name_reads_and_changes_nothing(server: Running, browser: Browser):
    """DNS rebinding: after the page has loaded, its name resolves to this service, so the browser sees one origin."""
    server.enroll("secret", stroke_png(BOX), gallery="rebound")
    name = server.url.replace("127.0.0.1", "rebound.example")
    # newer Chromium may block loopback requests from public pages; other and older browsers do not
    rules = ["--host-resolver-rules=MAP rebound.example 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]
    seen: dict[str, Any] = {}
    with browser.browser_type.launch(executable_path=find_chromium(), args=[*FLAGS, *rules]) as rebinding:
        page = rebinding.new_page()
        page.route(f"{name}/theirs", lambda route: route.fulfill(body=_PAGE.decode(), content_type="text/html"))
        page.goto(f"{name}/theirs")
        for path in (
            "/",
            "/classes?gallery=rebound",
            "/classes/secret/image?gallery=rebound",
            "/galleries",
            "/metrics",
        ):
            seen[path] = page.evaluate("url => fetch(url).then(a => a.status)", name + path)
        seen["enrol"] = int(enrol_from(page, name, "by rebinding"))
        delete = "url => fetch(url, {method: 'DELETE'}).then(a => a.status)"
        seen["delete"] = page.evaluate(delete, f"{name}/galleries/rebound")
        text = page.evaluate("url => fetch(url).then(a => a.text())", f"{name}/classes?gallery=rebound")
    assert seen == dict.fromkeys(seen, 421)
    assert len(seen) == 7
    assert "misdirected-request" in text
    assert "secret" not in text
    assert server.client.get("/classes?gallery=rebound").json()["classes"][0]["label"] == "secret"
    assert "by rebinding" not in labels(server)
