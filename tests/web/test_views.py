"""Verification, browsing, the map, the model card and the API key, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.api_key import Scope, make_key
from testing.browser import BOX, FLASH, Console, serving, shifted, stroke_png
from testing.factories import draw_character, png_bytes
from testing.served import Running

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script> ' \" & \u202eabc / 漢"


def filled(server: Running, gallery: str, count: int) -> list[str]:
    labels = [f"c{number:03}" for number in range(count)]
    for number, label in enumerate(labels):
        server.enroll(label, png_bytes(draw_character(number)), gallery=gallery)
    return labels


# -- verify ----------------------------------------------------------------------------------------------


def test_two_drawings_of_one_thing_are_the_same_and_of_two_are_not(console: Console):
    console.open("verify")
    console.draw(*BOX, pad="First image")
    expect(console.page.get_by_role("heading", name="Two images")).to_be_visible()
    console.draw(*shifted(BOX), pad="Second image")
    expect(console.page.locator(".verdict h2")).to_have_text("The same")
    console.page.get_by_role("button", name="Clear").last.click()
    console.draw(*FLASH, pad="Second image")
    expect(console.page.locator(".verdict h2")).to_have_text("Different")
    expect(console.page.locator(".facts")).to_contain_text("Same pairs missed")


def test_each_side_takes_a_file(console: Console, picture: Path):
    console.open("verify")
    for place in (0, 1):
        console.page.locator(".pad").nth(place).locator("input[type=file]").first.set_input_files(picture)
    expect(console.page.locator(".verdict h2")).to_have_text("The same")


# -- classes ---------------------------------------------------------------------------------------------


def test_pages_show_every_class_once(console: Console, server: Running, gallery: str):
    labels = filled(server, gallery, 30)
    console.open("classes", gallery)
    tiles = console.page.locator(".tile .label")
    expect(tiles).to_have_count(24)
    first = tiles.all_inner_texts()
    console.page.get_by_role("button", name="Next").click()
    expect(tiles).to_have_count(6)
    assert first + tiles.all_inner_texts() == labels
    expect(console.page.get_by_role("button", name="Next")).to_be_disabled()
    console.page.get_by_role("button", name="Previous").click()
    expect(tiles).to_have_count(24)


def test_a_search_shows_what_contains_the_text_and_pages_it(console: Console, server: Running, gallery: str):
    filled(server, gallery, 30)
    server.enroll("50 % C0", png_bytes(draw_character(31)), gallery=gallery)
    console.open("classes", gallery)
    page, tiles = console.page, console.page.locator(".tile .label")
    expect(tiles).to_have_count(24)
    page.get_by_role("button", name="Next").click()
    expect(tiles).to_have_count(7)
    page.get_by_label("Search names").fill("c0")
    expect(tiles).to_have_count(24)
    expect(tiles.first).to_have_text("50 % C0")
    page.get_by_role("button", name="Next").click()
    expect(tiles).to_have_count(7)
    page.get_by_label("Search names").fill("%")
    expect(tiles).to_have_text(["50 % C0"])
    expect(page.get_by_role("navigation", name="Pages")).to_be_hidden()
    page.get_by_label("Search names").fill("<b>nobody")
    expect(page.get_by_role("heading", name="No name contains “<b>nobody”")).to_be_visible()
    page.get_by_label("Search names").fill("")
    expect(tiles).to_have_count(24)


def test_a_gallery_is_deleted_only_after_a_question(console: Console, server: Running, taught: str):
    console.open("classes", taught)
    page = console.page
    page.get_by_role("button", name="Delete gallery…").click()
    expect(page.locator("dialog")).to_contain_text("its 2 classes")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.get_by_role("button", name="Delete gallery…").click()
    page.evaluate("location.hash = '#map'")  # like the browser's back button
    expect(page.locator("dialog")).to_have_count(0)
    page.evaluate("location.hash = '#classes'")
    assert server.client.get("/classes", params={"gallery": taught}).status_code == 200
    page.get_by_role("button", name="Delete gallery…").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator(".toast")).to_contain_text(f"Deleted gallery “{taught}”")
    expect(page.locator("#gallery")).to_have_value("default")
    assert server.client.get("/classes", params={"gallery": taught}).status_code == 404


def test_a_class_can_be_renamed_replaced_and_deleted(console: Console, server: Running, taught: str):
    console.refusals = {404, 409}
    console.open("classes", taught)
    page, at = console.page, {"gallery": taught}
    page.get_by_role("button", name="flash").click()
    page.get_by_label("Name", exact=True).fill("box")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".toast.error")).to_contain_text("Already enrolled")
    page.get_by_label("Name", exact=True).fill("bolt")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".tile .label")).to_have_text(["bolt", "box"])

    page.get_by_role("button", name="bolt").click()
    page.get_by_text("Another image").click()
    console.draw(*BOX, pad="New image")
    page.get_by_role("button", name="Replace with this").click()
    expect(page.locator("dialog")).to_have_count(0)
    answer = server.client.post("/verify", params=at, data={"label": "bolt"}, files={"image1": stroke_png(BOX)}).json()
    assert answer["verified"]

    page.get_by_role("button", name="bolt").click()
    page.get_by_role("button", name="Delete class").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator(".tile .label")).to_have_text(["box"])
    assert server.client.get("/classes/bolt", params=at).status_code == 404


def test_a_new_gallery_is_made_by_its_first_class(console: Console, server: Running, gallery: str):
    console.open()
    console.page.select_option("#gallery", label="New gallery…")
    console.page.get_by_label("Name").fill(gallery)
    console.page.get_by_role("button", name="Use this gallery").click()
    expect(console.page.locator("#gallery option:checked")).to_have_text(f"{gallery} (0)")
    console.draw(*BOX)
    console.enrol("box")
    expect(console.page.locator("#gallery option:checked")).to_have_text(f"{gallery} (1)")
    assert server.client.get("/classes/box", params={"gallery": gallery}).status_code == 200


def test_a_label_is_text_wherever_it_is_shown(console: Console, server: Running, taught: str):
    assert server.enroll(HOSTILE, stroke_png(FLASH), gallery=taught).is_success
    title = console.page.title
    for view, place in (("recognise", ".cards"), ("classes", ".grid"), ("map", ".side")):
        console.open(view, taught)
        if view == "recognise":
            console.draw(*FLASH)
        expect(console.page.locator(place)).to_contain_text("<img src=x onerror=")
        assert "taken" not in title()
    console.open("classes", taught)
    console.page.locator(".tile", has_text="<img").click()
    expect(console.page.locator("dialog h2")).to_have_text(HOSTILE)
    console.page.get_by_label("Name", exact=True).fill("tame")
    console.page.get_by_role("button", name="Rename").click()
    expect(console.page.locator(".tile .label")).to_have_text(["box", "flash", "tame"])


# -- map and model ---------------------------------------------------------------------------------------


def test_the_map_shows_every_class_and_the_neighbours_of_the_one_pointed_at(
    console: Console, server: Running, gallery: str
):
    labels = filled(server, gallery, 12)
    console.open("map", gallery)
    expect(console.page.locator(".node")).to_have_count(12)
    expect(console.page.locator(".node image[href^=blob]")).to_have_count(12)
    points = server.client.get(f"/galleries/{gallery}/map").json()["points"]
    neighbours = {point["label"]: [each["label"] for each in point["neighbours"]] for point in points}
    for label in (labels[3], labels[8]):
        console.page.get_by_role("button", name=label).hover()
        expect(console.page.locator(".side h2")).to_have_text(label)
        expect(console.page.locator(".side .label")).to_have_text([label, *neighbours[label]])
        expect(console.page.locator(".links line")).to_have_count(5)
    console.page.keyboard.press("Tab")
    before = console.page.locator(".side h2").inner_text()
    console.page.get_by_role("button", name=before).focus()
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
        console.page.keyboard.press(key)
    assert console.page.evaluate("document.activeElement.classList.contains('chosen')")
    console.page.keyboard.press("Enter")
    expect(console.page.locator("dialog")).to_be_visible()


def test_the_model_card_shows_what_the_manifest_says(console: Console, server: Running):
    model = server.client.get("/model").json()
    console.open("model")
    expect(console.page.get_by_role("heading", name=model["model"])).to_be_visible()
    quality = model["manifest"]["calibration"]["quality"]
    expect(console.page.locator(".plot .dot")).to_have_count(len(quality["predicted"]))
    rows = console.page.locator("tbody tr")
    expect(rows).to_have_count(len(model["manifest"]["accuracy"]))
    expect(rows.first).to_contain_text(f"{model['manifest']['accuracy'][0]['value']:g}")


# -- the key ---------------------------------------------------------------------------------------------


def test_it_asks_for_a_key_and_keeps_it_for_the_tab(browser: Browser, tmp_path: Path):
    with serving(tmp_path, api_keys="on") as server:
        key, secret = make_key("console", frozenset({Scope.READ, Scope.ENROL}), None)
        server.service.store.keys.add(key)
        context = browser.new_context()
        console = Console(context.new_page(), server.url)
        console.refusals = {401}
        page = console.page
        page.goto(server.url)
        for text, said in (("wrong", "asks for an API key"), (secret, "refused that key")):
            expect(page.locator("dialog")).to_contain_text(said)
            page.get_by_label("API key").fill(text)
            page.get_by_role("button", name="Use this key").click()
        expect(page.locator("dialog")).to_have_count(0)
        console.draw(*BOX)
        console.enrol("box")
        expect(page.locator(".verdict h2")).to_have_text("box")
        assert (
            page.locator(".cards img.thumb").evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
        )
        page.reload()
        expect(page.locator("#gallery option:checked")).to_have_text(re.compile(r"default \(1\)"))
        page.get_by_role("button", name="Forget key").click()
        expect(page.locator("dialog")).to_contain_text("asks for an API key")
        context.close()
        assert console.errors == []
