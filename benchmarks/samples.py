"""Writes the sample answers in the README, and the model's name in those of docs/api.md: python -m benchmarks.samples

They are the answers of the service with its default settings, as `make serve` starts it. A test reproduces them.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from app.api.application import create_app
from app.settings import load_settings

ROOT = Path(__file__).parent.parent
README, API = ROOT / "README.md", ROOT / "docs" / "api.md"
_BLOCK = re.compile(
    r"(<!-- answers, written by `python -m benchmarks.samples` -->\n).*(?=<!-- end of answers -->)", re.S
)
_MODEL = re.compile(r"omniglot@[0-9a-f]{12}")
_LABELS = ("arrow", "house", "ladder", "spiral")
#: Decimals to show; the default is two.
_DECIMALS = {"similarity": 4, "distance": 3, "threshold": 4, "fpir": 4, "fmr": 4, "value": 4, "low": 4, "high": 4}

_TEXT = """Each answers, once it is on disk:

```
{enrolled}
```

A house by another hand, and a symbol that was never enrolled (numbers shortened here):

```
$ curl -F image=@images/new/house.png 'localhost:8000/classify?k=2'
{house}

$ curl -F image=@images/stranger.png 'localhost:8000/classify?k=2'
{stranger}

$ curl -F image1=@images/known/house.png -F image2=@images/new/house.png localhost:8000/verify
{verified}
```
"""


def draw(folder: Path) -> Path:
    """Draw the guides' example images into the folder."""
    subprocess.run([sys.executable, ROOT / "examples" / "symbols.py", folder], check=True)
    return folder


async def answers(images: Path) -> dict[str, Any]:
    """The service's answers for the images of `examples/symbols.py`."""
    with tempfile.TemporaryDirectory() as home:
        app = create_app(load_settings(home=Path(home)))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60) as client,
        ):
            while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)

            async def ask(path: str, data: dict[str, str] | None = None, **files: str) -> Any:
                sent = {name: (images / file).read_bytes() for name, file in files.items()}
                return (await client.post(path, data=data, files=sent)).raise_for_status().json()

            enrolled = {label: await ask("/enroll", {"label": label}, image=f"known/{label}.png") for label in _LABELS}
            return {
                "enrolled": enrolled["house"],
                "house": await ask("/classify?k=2", image="new/house.png"),
                "stranger": await ask("/classify?k=2", image="stranger.png"),
                "verified": await ask("/verify", image1="known/house.png", image2="new/house.png"),
            }


def render(found: dict[str, Any]) -> str:
    """The text between the two markers in the README."""
    return _TEXT.format(**{name: _lines(_short(answer)) for name, answer in found.items()})


def with_samples(readme: str, found: dict[str, Any]) -> str:
    """The README with these answers."""
    return _BLOCK.sub(lambda match: match.group(1) + render(found), readme)


def with_model(page: str, found: dict[str, Any]) -> str:
    """The page with the name of the current model."""
    return _MODEL.sub(found["house"]["model"], page)


def _short(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _short(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return round(value, _DECIMALS.get(name, 2)) if isinstance(value, float) else value


def _lines(answer: Any) -> str:
    """An answer as compact JSON, with line breaks for readability."""
    text = json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
    for key in ("updated_at", "candidates", "fnmr", "model"):
        text = text.replace(f',"{key}"', f',\n "{key}"')
    text = text.replace('},{"label"', '},\n               {"label"')
    return text.replace('],"threshold"', '],\n "threshold"')


def main() -> None:
    """Run the command line."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(answers(draw(Path(folder))))
    README.write_text(with_samples(README.read_text("utf-8"), found), "utf-8")
    API.write_text(with_model(API.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
