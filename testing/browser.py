"""A real Chromium with the real service, for the tests and screenshots of the console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, expect

from model import DEFAULT_ARTIFACT
from testing.factories import png_bytes
from testing.served import Running, make_settings, running

#: No requests except to the service, and no sandbox, because containers run it as root.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 15_000


def find_chromium() -> str | None:
    """The path of the system's Chromium, or None; the variable CHROMIUM overrides it."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def launch(playwright: Playwright) -> Browser:
    """Start the system's Chromium, headless."""
    return playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)


@contextmanager
def serving(home: Path, **settings: Any) -> Iterator[Running]:
    """The service with the shipped model, ready to answer."""
    with running(make_settings(model=DEFAULT_ARTIFACT, home=home, **settings)) as server:
        while server.client.get("/readyz").status_code != 200:
            pass
        yield server


class Console:
    """The console in a page of its own; `errors` collects the page's errors and warnings."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.refusals: set[int] = set()  # expected statuses, which the browser logs as errors
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        refused = any(f"the server responded with a status of {status} " in message.text for status in self.refusals)
        if message.type in {"error", "warning"} and not refused:
            self.errors.append(message.text)

    def open(self, view: str = "recognise", gallery: str = "default") -> None:
        """Show a view of a gallery."""
        self.page.goto(f"{self.url}/#{view}")
        self.page.wait_for_selector(f".view-{view}")
        if self.page.input_value("#gallery") != gallery:
            self.page.evaluate("name => sessionStorage.setItem('oneshot-gallery', name)", gallery)
            self.page.reload()
            self.page.wait_for_selector(f".view-{view}")

    def draw(self, *strokes: list[tuple[float, float]], pad: str = "Drawing") -> None:
        """Draw with the mouse; points are fractions of the pad's size."""
        canvas = self.page.get_by_role("application", name=pad)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        for stroke in strokes:
            places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            self.page.mouse.move(*places[0])
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*place, steps=4)
            self.page.mouse.up()

    def enrol(self, name: str, how: str | None = None) -> None:
        """Enrol the drawing; `how` is the button to press if the name is taken."""
        field = self.page.get_by_label("Enrol it as")
        field.fill(name)
        self.page.get_by_role("button", name="Enrol", exact=True).click()
        if how:
            self.page.get_by_role("button", name=how).click()
        expect(field).to_have_value("")

    @property
    def verdict(self) -> str:
        """The headline of the result."""
        return self.page.locator(".verdict h2").inner_text()

    def settled(self) -> None:
        """Wait until the network is idle."""
        self.page.wait_for_load_state("networkidle")


Strokes = list[list[tuple[float, float]]]


def stroke_png(strokes: Strokes) -> bytes:
    """A drawing as a PNG file, similar to what the page sends."""
    image = Image.new("L", (256, 256), 255)
    for stroke in strokes:
        ImageDraw.Draw(image).line([(x * 256, y * 256) for x, y in stroke], fill=0, width=8, joint="curve")
    return png_bytes(image)


#: A cross in a box, a lightning bolt and a house: clearly different drawings.
BOX = [[(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2)], [(0.5, 0.3), (0.5, 0.7)], [(0.3, 0.5), (0.7, 0.5)]]
FLASH = [[(0.6, 0.1), (0.3, 0.55), (0.65, 0.5), (0.35, 0.92)]]
HOUSE = [[(0.2, 0.9), (0.2, 0.45), (0.5, 0.15), (0.8, 0.45), (0.8, 0.9)], [(0.1, 0.9), (0.9, 0.9)]]


def shifted(strokes: Strokes, by: float = 0.03) -> Strokes:
    """The same drawing, slightly shifted and scaled, as if by another hand."""
    moved = enumerate(strokes)
    return [[(x * 0.95 + by * (n % 2), y * 0.93 + by + 0.01 * (x > 0.5)) for x, y in stroke] for n, stroke in moved]
