"""Accessibility: axe finds no serious problem in any view, light or dark, and touch targets are large enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from testing.browser import BOX, FLASH, HOUSE, Console
from testing.served import Running

pytestmark = pytest.mark.slow

SMALL = """() => [...document.querySelectorAll('button, .button, select, input:not([type=file]), nav a, summary')]
  .map((node) => [node.innerText || node.id, node.getBoundingClientRect()])
  .filter(([, box]) => box.width > 0 && (box.height < 43.5 || box.width < 43.5))
  .map(([name, box]) => `${name}: ${box.width} x ${box.height}`)"""


def recognise(console: Console) -> None:
    console.draw(*FLASH)
    expect(console.page.locator(".tag")).to_have_text("Recognised")


def unknown(console: Console) -> None:
    console.draw(*HOUSE)
    expect(console.page.locator(".tag")).to_have_text("Stranger")


def ambiguous(console: Console) -> None:
    console.draw(*BOX)
    console.enrol("crate")
    expect(console.page.locator(".tag")).to_have_text("Not sure")


def verify(console: Console) -> None:
    for pad in ("First image", "Second image"):
        console.draw(*BOX, pad=pad)
    expect(console.page.locator(".verdict h2")).to_have_text("The same")


def one_class(console: Console) -> None:
    console.page.locator(".tile").first.click()
    console.page.get_by_text("Another image").click()
    console.page.get_by_role("button", name="Delete class").click()


def search_in_vain(console: Console) -> None:
    console.page.get_by_label("Search names").fill("nobody")
    expect(console.page.get_by_role("heading", name="No name contains")).to_be_visible()


def delete_gallery(console: Console) -> None:
    console.page.get_by_role("button", name="Delete gallery…").click()
    expect(console.page.locator("dialog")).to_be_visible()


def new_gallery(console: Console) -> None:
    console.page.select_option("#gallery", label="New gallery…")
    expect(console.page.locator("dialog")).to_be_visible()


def nothing(console: Console) -> None:
    console.page.wait_for_load_state("networkidle")


@pytest.fixture(params=["light", "dark"])
def console(request: pytest.FixtureRequest, browser: Browser, server: Running) -> Iterator[Console]:
    context = browser.new_context(
        color_scheme=request.param, reduced_motion="reduce", viewport={"width": 1280, "height": 900}
    )
    shown = Console(context.new_page(), server.url)
    yield shown
    context.close()
    assert shown.errors == []


@pytest.mark.parametrize(
    ("view", "act"),
    [
        ("recognise", nothing),
        ("recognise", recognise),
        ("recognise", unknown),
        ("recognise", ambiguous),
        ("verify", verify),
        ("classes", nothing),
        ("classes", one_class),
        ("classes", search_in_vain),
        ("classes", delete_gallery),
        ("map", new_gallery),
        ("map", nothing),
        ("model", nothing),
    ],
)
def test_axe_finds_nothing_serious(console: Console, taught: str, view: str, act: Callable[[Console], None]):
    console.open(view, taught)
    act(console)
    found = Axe().run(console.page).response["violations"]
    serious = [
        f"{each['id']} ({each['impact']}): {[node['html'] for node in each['nodes']]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert console.page.evaluate(SMALL) == []


@pytest.mark.parametrize("view", ["recognise", "verify", "classes", "map", "model"])
def test_every_view_fits_a_phone(browser: Browser, server: Running, taught: str, view: str):
    context = browser.new_context(viewport={"width": 360, "height": 780}, has_touch=True, is_mobile=True)
    shown = Console(context.new_page(), server.url)
    shown.open(view, taught)
    shown.settled()
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert shown.page.evaluate(SMALL) == []
    context.close()
    assert shown.errors == []
