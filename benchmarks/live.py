"""Latency of the console's live answers while drawing, in a real Chromium with `oneshot serve` on this machine.

    python -m benchmarks.live [--drawings 60] [--json RESULT.json]

Each answer has two times. The first, from request to answer, covers encoding the image, the round trip, the service's
work and updating the page. The second starts at the oldest change that the answer is the first to include; it adds the
wait before the request, including the wait for the previous answer. The page draws its examples itself, a point every
16 ms, so that no mouse driver uses CPU time. The browser renders without a GPU and shares the CPUs with the service.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from playwright.sync_api import expect, sync_playwright

from testing.browser import Console, launch
from testing.processes import Server

GALLERY = "examples"
DRAWING_MS = 1_500
"""Longer than the page takes to draw an example and get the last answer."""
_OBSERVE = """() => {
  window.answers = [];
  const times = (entry) => [entry.detail.question, entry.duration];
  const keep = (list) => answers.push(...list.getEntriesByName('live answer').map(times));
  new PerformanceObserver(keep).observe({ entryTypes: ['measure'] });
}"""


def measure(url: str, drawings: int) -> list[tuple[float, float]]:
    """The two times of every answer to `drawings` drawings, in milliseconds, after a warm-up drawing."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        console = Console(browser.new_page(viewport={"width": 1280, "height": 900}), url)
        console.open()
        console.page.get_by_role("button", name="Try with examples").click()
        expect(console.page.locator(".tag")).to_have_text("Recognised")
        console.page.evaluate(_OBSERVE)
        for number in range(drawings + 1):
            console.page.get_by_role("button", name="Draw a known one").click()
            console.page.wait_for_timeout(DRAWING_MS)
            if number == 0:
                console.page.evaluate("answers.length = 0")
        taken: list[tuple[float, float]] = console.page.evaluate("answers")
        browser.close()
    if console.errors:
        raise RuntimeError("\n".join(console.errors))
    return taken


def summary(taken: list[tuple[float, float]], drawings: int, url: str) -> dict[str, Any]:
    """The result: quantiles of the times, and their context."""
    return {
        "drawings": drawings,
        "answers": len(taken),
        "question_ms": _spread([question for question, _ in taken]),
        "change_ms": _spread([change for _, change in taken]),
        "classes": next(each["classes"] for each in _get(url, "galleries")["galleries"] if each["name"] == GALLERY),
        "model": _get(url, "model")["model"],
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _spread(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    named = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "most": max(times)}
    return {name: round(value, 1) for name, value in named.items()}


def _get(url: str, path: str) -> Any:
    return httpx.get(f"{url}/{path}", trust_env=False).raise_for_status().json()


def main(
    drawings: Annotated[int, typer.Option(min=2, help="How many drawings to make.")] = 60,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the result.")] = None,
) -> None:
    """Draw, and tell how long the answers took."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "data", None) as server:
        result = summary(measure(server.ready().url, drawings), drawings, server.url)
    text = json.dumps(result, indent=2)
    print(text)
    if json_file is not None:
        json_file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
