"""One browser and one service for all tests of the console; each test has a new page and gallery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from testing.browser import BOX, FLASH, Console, find_chromium, launch, serving, stroke_png
from testing.factories import draw_character, png_bytes
from testing.served import Running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture
def gallery(request: pytest.FixtureRequest) -> str:
    return f"g{abs(hash(request.node.nodeid)):x}"


@pytest.fixture
def taught(server: Running, gallery: str) -> str:
    """A gallery with two drawings, a box and a flash."""
    for name, strokes in (("box", BOX), ("flash", FLASH)):
        assert server.enroll(name, stroke_png(strokes), gallery=gallery).status_code == 201
    return gallery


@pytest.fixture
def console(browser: Browser, server: Running) -> Iterator[Console]:
    """A console; the test fails if the browser logs an error or warning."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    shown = Console(context.new_page(), server.url)
    yield shown
    context.close()
    assert shown.errors == []


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A drawing as a PNG file."""
    path = tmp_path / "character.png"
    path.write_bytes(png_bytes(draw_character(7, size=200)))
    return path
