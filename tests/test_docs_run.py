"""The guides are correct: their commands run, their links resolve, and every verb and option is described.

Convention: fenced blocks of `sh` and `python` are run, page by page from top to bottom in one folder, against a new
service with the shipped model. Blocks of other languages (`text`, `json`, `toml`) are not run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from PIL import Image

from app.cli import cli
from testing.docs import DOCS, ROOT, anchors, blocks, links, pages
from testing.processes import Server

RUNNABLE = {"sh", "python"}
FOR_READING = {"", "text", "json", "toml"}


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


def is_runnable(page: Path) -> bool:
    return any(block.language in RUNNABLE for block in blocks(page))


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with only the examples, as in a clone."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def environment(url: str) -> dict[str, str]:
    """The environment after `source .venv/bin/activate`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "ONESHOT_URL": url, "OMP_NUM_THREADS": "1", "ONESHOT_THREADS": "1"}


def run_shell(text: str, folder: Path, url: str) -> str:
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command, cwd=folder, env=environment(url), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_page(page: Path, folder: Path, url: str) -> str:
    """Run all blocks of a page and return their output."""
    printed = io.StringIO()
    variables: dict[str, object] = {"url": url}
    for block in blocks(page):
        if block.language == "sh":
            printed.write(run_shell(block.text, folder, url))
        elif block.language == "python":
            with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
                exec(compile(block.text, page.name, "exec"), variables)  # noqa: S102 - the page's own examples
    return printed.getvalue()


@pytest.fixture
def server(workplace: Path) -> Iterator[Server]:
    with Server(workplace / "data", None) as started:
        yield started.ready()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in names(pages()) if is_runnable(ROOT / name)])
def test_every_command_of_a_page_runs(name: str, workplace: Path, server: Server):
    if name in {"client/README.md", "docs/client.md"}:
        run_shell("python examples/symbols.py images", workplace, server.url)
    printed = run_page(ROOT / name, workplace, server.url)
    if name.endswith("quickstart.md"):
        assert "10 images of 10 classes (10 new) enrolled" in printed
        assert printed.count(" known") == 10
        assert "nobody we know" in printed
        assert "same: similarity" in printed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_folder_becomes_a_served_recogniser(workplace: Path):
    run_shell("python examples/symbols.py images", workplace, "")
    known = workplace / "images/known"
    with Image.open(known / "house.png") as image:
        image.convert("RGB").save(known / "house.jpg")  # a second image of a class, in another format
    with Server(workplace / "unused", None) as probe:  # finds a free port
        port = probe.ready().url.rpartition(":")[2]
    url = f"http://127.0.0.1:{port}"
    for _ in range(2):  # a second start must not enrol anything twice
        with serving_folder(workplace, "images/known", port) as lines:
            assert lines[0].startswith("11 images of 10 classes")
            assert lines[1].startswith("ready")
            assert "known" in run_shell("oneshot classify images/new", workplace, url)
            listed = run_shell("oneshot classes list --json", workplace, url).splitlines()
            shots = {each["label"]: each["shots"] for each in map(json.loads, listed)}
            assert shots == {file.stem: 1 + (file.stem == "house") for file in known.glob("*.png")}


@contextlib.contextmanager
def serving_folder(workplace: Path, folder: str, port: str) -> Iterator[list[str]]:
    """Run the example; yields the first two lines that it prints."""
    command, url = [sys.executable, "examples/serve_folder.py", folder, port], f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, cwd=workplace, env=environment(url), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        try:
            assert started.stdout is not None
            yield [started.stdout.readline().strip() for _ in range(2)]
        finally:
            os.killpg(started.pid, 2)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and _answers(url):
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, 9)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=1).is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_faces_are_measured_on_the_layout_of_the_att_set(workplace: Path, server: Server):
    make = """
from PIL import Image
from pathlib import Path
from typing import Any
import sys
sys.path.insert(0, "examples")
from symbols import SYMBOLS, draw
for person, strokes in enumerate(list(SYMBOLS.values())[:4], 1):
    folder = Path(f"att/s{person}")
    folder.mkdir(parents=True)
    for number in (1, 2, 10):
        draw(strokes, 100 * person + number, 92).save(folder / f"{number}.pgm")
"""
    run_shell(f"python - <<'END'{make}END", workplace, server.url)
    for _ in range(2):  # the second time the gallery already exists
        text = run_shell("python examples/faces.py att", workplace, server.url)
        assert text.startswith("4 people, 8 photographs asked for\nthe nearest is the right person: 100.0%")


@pytest.mark.parametrize("name", names(pages()))
def test_a_block_says_whether_it_is_run(name: str):
    assert {block.language for block in blocks(ROOT / name)} <= RUNNABLE | FOR_READING


@pytest.mark.parametrize("name", names(pages()))
def test_every_link_leads_somewhere(name: str):
    page = ROOT / name
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index():
    index = {str((DOCS / link.partition("#")[0]).resolve()) for link in links(DOCS / "README.md")}
    assert {str(page) for page in DOCS.glob("*.md")} - index <= {str(DOCS / "README.md")}


def verbs(command: Any, name: str = "oneshot") -> Iterator[tuple[str, Any]]:
    """Yield every verb with its full name."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield name, command
    else:
        for child, subcommand in subcommands.items():
            yield from verbs(subcommand, f"{name} {child}")


VERBS = dict(verbs(typer.main.get_command(cli)))


def sections() -> dict[str, str]:
    """The sections of cli.md by heading."""
    parts = re.split(r"^## (.+)$", (DOCS / "cli.md").read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_and_option_is_described(name: str):
    text = sections()[name]
    where = sections()["Where a verb works"]
    if name == "oneshot serve":  # its options are the settings, which tests/app/test_docs.py checks
        return
    for parameter in VERBS[name].params:
        if getattr(parameter, "param_type_name", "") != "option" or parameter.name == "help":
            continue
        shared = parameter.name in {"url", "api_key", "local"} or (parameter.name == "home" and "`--local`" in where)
        for option in parameter.opts:
            assert f"`{option}" in (text + where if shared else text), (name, option)


def test_no_verb_is_described_that_is_not_there():
    described = {heading for heading in sections() if heading.startswith("oneshot ")}
    assert described == set(VERBS)
