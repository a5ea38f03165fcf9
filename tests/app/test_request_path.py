"""The call path of a classification matches `docs/architecture.md`."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx

from app.api.application import create_app
from testing.docs import DOCS, ROOT
from testing.served import make_settings

_LINE = re.compile(r"^(app|model)(/[a-z_/0-9]+\.py) +([\w.· ]+?)(?:  .*)?$", re.MULTILINE)


def drawn() -> list[tuple[str, str]]:
    """File and function of each hop, in order."""
    text = (DOCS / "architecture.md").read_text("utf-8")
    section = text.partition("## The path of a classification")[2].partition("\n## ")[0]
    return [(top + file, name) for top, file, names in _LINE.findall(section) for name in names.split(" · ")]


@contextmanager
def watched(called: list[tuple[str, str]]) -> Iterator[None]:
    """Record the first call of each project function in any thread; clearing `called` starts over."""
    root = f"{ROOT}/"

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(root):
            call = code.co_filename.removeprefix(root), code.co_qualname
            if call not in called:
                called.append(call)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def classified(home: Path, artifact: Path, image: bytes, called: list[tuple[str, str]]) -> None:
    """Enrol an image and classify it twice; `called` then holds the path of the second classification."""
    app = create_app(make_settings(model=artifact, home=home))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client,
    ):
        files = {"image": ("x.png", image)}
        assert (await client.post("/enroll", data={"label": "a"}, files=files)).status_code == 201
        for _ in range(2):
            called.clear()
            answer = await client.post("/classify", content=image, headers={"Content-Type": "image/png"})
            assert answer.json()["candidates"][0]["label"] == "a"


def test_a_classification_takes_the_path_that_is_drawn(tmp_path: Path, artifact: Path, images: list[bytes]):
    called: list[tuple[str, str]] = []
    with watched(called):
        asyncio.run(classified(tmp_path / "home", artifact, images[0], called))
    path = drawn()
    assert len(path) > 20
    assert [hop for hop in called if hop in path] == path
