"""Take the screenshots of the documentation: python -m tests.web.screenshots

They show every flow of the console with the shipped model.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from testing.browser import BOX, HOUSE, Console, launch, serving, shifted
from testing.served import Running

FOLDER = Path(__file__).parents[2] / "docs" / "images"
COLOURS = 128
EXAMPLES = "examples"


@contextmanager
def page(browser: Browser, server: Running, *, dark: bool = False, phone: bool = False) -> Iterator[Console]:
    """A console in a new browser context."""
    context = browser.new_context(
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        viewport={"width": 390, "height": 844} if phone else {"width": 1180, "height": 760},
        has_touch=phone,
        is_mobile=phone,
    )
    yield Console(context.new_page(), server.url)
    context.close()


def shoot(console: Console, name: str, whole: bool = False) -> None:
    """Save the visible page, or the whole one, as a small PNG file."""
    console.settled()
    console.page.wait_for_timeout(300)
    console.page.evaluate("scrollTo(0, 0)")
    console.page.evaluate("document.getElementById('toasts').replaceChildren()")
    shot = Image.open(io.BytesIO(console.page.screenshot(full_page=whole))).convert("RGB")
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"console-{name}.png", optimize=True)


def first_minute(browser: Browser, server: Running) -> None:
    """The start page, a known character and a stranger."""
    with page(browser, server) as console:
        console.open()
        shoot(console, "start")
        console.page.get_by_role("button", name="Try with examples").click()
        expect(console.page.locator(".tag")).to_have_text("Recognised")
        shoot(console, "recognise", whole=True)
    with page(browser, server, dark=True) as console:
        console.open(gallery=EXAMPLES)
        console.page.get_by_role("button", name="Draw a stranger").click()
        expect(console.page.locator(".tag")).to_have_text("Stranger")
        shoot(console, "unknown")
    with page(browser, server, phone=True) as console:
        console.open(gallery=EXAMPLES)
        console.page.get_by_role("button", name="Draw a known one").click()
        expect(console.page.locator(".tag")).to_have_text("Recognised")
        shoot(console, "phone")


def own_drawings(browser: Browser, server: Running) -> None:
    """Enrolment, an ambiguous answer, verification."""
    with page(browser, server) as console:
        console.open(gallery="drawings")
        console.draw(*BOX)
        console.enrol("box")
        expect(console.page.locator(".verdict h2")).to_have_text("box")
        shoot(console, "enrol")
        console.enrol("crate")
        expect(console.page.locator(".tag")).to_have_text("Not sure")
        shoot(console, "ambiguous")
        console.open("verify", "drawings")
        console.draw(*HOUSE, pad="First image")
        console.draw(*shifted(HOUSE), pad="Second image")
        expect(console.page.locator(".verdict h2")).to_have_text("The same")
        shoot(console, "verify", whole=True)


def library(browser: Browser, server: Running) -> None:
    """The list of classes, one class, the map, the model."""
    with page(browser, server) as console:
        console.open("classes", EXAMPLES)
        expect(console.page.locator(".tile")).to_have_count(24)
        shoot(console, "classes")
        console.page.locator(".tile").nth(8).click()
        expect(console.page.locator("dialog")).to_be_visible()
        shoot(console, "class")
        console.page.keyboard.press("Escape")
        console.page.get_by_label("Search names").fill("e")
        expect(console.page.locator(".tile")).not_to_have_count(24)
        shoot(console, "search")
        console.page.get_by_role("button", name="Delete gallery…").click()
        expect(console.page.locator("dialog")).to_be_visible()
        shoot(console, "delete")
        console.open("model", EXAMPLES)
        expect(console.page.locator(".dot").first).to_be_visible()
        shoot(console, "model", whole=True)
    for dark in (False, True):
        with page(browser, server, dark=dark) as console:
            console.open("map", EXAMPLES)
            console.page.get_by_role("button", name="rin").hover()
            shoot(console, "map-dark" if dark else "map", whole=True)


def key(browser: Browser) -> None:
    """The dialog that asks for an API key."""
    with (
        tempfile.TemporaryDirectory() as home,
        serving(Path(home), api_keys="on") as server,
        page(browser, server) as console,
    ):
        console.page.goto(server.url)
        expect(console.page.locator("dialog")).to_be_visible()
        shoot(console, "key")


def main() -> None:
    """Take all screenshots."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    flows: tuple[Callable[[Browser, Running], None], ...] = (first_minute, own_drawings, library)
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        for flow in flows:
            flow(browser, server)
        key(browser)
        browser.close()


if __name__ == "__main__":
    main()
