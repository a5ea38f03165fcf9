"""The report's page in a real browser: it fetches nothing, fits a phone, and axe finds no serious problem."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from model.artifact import load_artifact
from testing.synthetic import TINY_RECIPE, write_tree
from training.fit import fit
from training.recipe import load_recipe
from training.report.measure import measure
from training.report.write import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_tree(root / "data")
    (root / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    changes = ("data.held_out=['Beta', 'Gamma']", "optimizer.steps=40", "validate_every=20")
    fit(load_recipe(str(root / "tiny.toml"), changes), root / "data", root / "model")
    artifact = load_artifact(root / "model")
    report = measure(artifact, root / "data", command="a command", part="held-out", trials=200)
    return write_report(report, root / "out")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(browser: Browser, page_file: Path, scheme: str, width: int):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else errors.append(asked.url))
    page.goto(page_file.as_uri())
    assert page.locator("figure svg").count() >= 7
    assert page.locator(".mistake img").count() % 3 == 0
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out"
    serious = [
        (found["id"], found["nodes"][0]["html"])
        for found in Axe().run(page).response["violations"]
        if found["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert errors == []
    context.close()
