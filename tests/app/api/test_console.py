"""How the console's files are served. tests/web tests their behaviour in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testing.docs import ROOT
from testing.served import Running, assert_problem

WEB = ROOT / "app" / "web"
FILES = sorted(WEB.iterdir())


def test_the_page_allows_nothing_inline_and_nothing_from_elsewhere(served: Running):
    response = served.client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?://", response.text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_served_as_it_is_and_only_once(served: Running, path: Path):
    response = served.client.get(f"/web/{path.name}")
    assert response.content == path.read_bytes()
    kind = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.suffix]
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["x-content-type-options"] == "nosniff"
    again = served.client.get(f"/web/{path.name}", headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fmain.py", "%2e%2e%2fmain.py", "__init__.py", ""])
def test_no_other_file_is_served(served: Running, name: str):
    assert_problem(served.client.get(f"/web/{name}"), 404, "not-found")


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".js"], ids=lambda path: path.name)
def test_scripts_never_turn_text_into_markup_and_stay_short(path: Path):
    text = path.read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert len(text.splitlines()) <= 400
