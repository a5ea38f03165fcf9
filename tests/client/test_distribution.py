"""The client as a distribution: installed alone next to a foreign package `app`, with a user's script type-checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from testing.factories import draw_character, png_bytes
from testing.processes import Server

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio
import sys

import app
from oneshot_client import AsyncClient, Client, MissingError
from oneshot_client.answers import ClassifyPublic

url, image = sys.argv[1:]


async def ask() -> ClassifyPublic:
    async with AsyncClient(url) as service:
        return await service.classify(image)


with Client(url) as client:
    created: bool = client.enroll("alpha", image).created
    found = client.classify(image)
    same: ClassifyPublic = asyncio.run(ask())
    try:
        client.delete_class("nobody")
    except MissingError as error:
        slug: str = error.slug
label: str | None = found.label
print(app.OWNER, created, label, same.label, slug, found.candidates[0].similarity > 0.5)
"""
MISTAKES = """
from oneshot_client import Client

with Client("http://127.0.0.1:9") as client:
    number: int = client.classify("x.png").label
    client.enroll("alpha")
    client.model().speed
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def succeed(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the client and a foreign package called `app`."""
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder, with_pip=True)
    made = folder / "bin/python"
    constraints = ("--quiet", "--constraint", ROOT / "constraints.txt")
    succeed(made, "-m", "pip", "install", *constraints, ROOT / "client", cwd=folder)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "app").mkdir()
    (packages / "app/__init__.py").write_text('OWNER: str = "another"\n')
    (packages / "app/py.typed").touch()
    return made


def check_types(program: str, python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    options = ("--strict", "--python-executable", python, "--cache-dir", folder / "cache")
    return run(sys.executable, "-m", "mypy", *options, "program.py", cwd=folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_of_the_service_is_installed(python: Path, tmp_path: Path):
    installed = succeed(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    names = {line.partition("==")[0] for line in installed.splitlines()}
    assert {"oneshot-client", "httpx", "pydantic"} <= names
    assert names & {"oneshot", "torch", "fastapi", "numpy", "pillow"} == set()
    for package in ("model", "training", "faiss", "PIL"):
        assert run(python, "-c", f"import {package}", cwd=tmp_path).returncode == 1
    described = succeed(python, "-m", "pip", "show", "--files", "oneshot-client", cwd=tmp_path)
    assert {"oneshot_client/py.typed", "oneshot_client/sync.py"} <= set(described.split())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_program_runs_against_a_service(python: Path, tmp_path: Path):
    image = tmp_path / "image.png"
    image.write_bytes(png_bytes(draw_character(1)))
    (tmp_path / "program.py").write_text(PROGRAM)
    with Server(tmp_path / "data", None) as server:
        printed = succeed(python, "program.py", server.ready().url, image, cwd=tmp_path)
    assert printed == "another True alpha alpha class-not-found True\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_program_is_type_checked_strictly(python: Path, tmp_path: Path):
    assert check_types(PROGRAM, python, tmp_path).stdout.startswith("Success"), "a right program"
    wrong = check_types(MISTAKES, python, tmp_path).stdout
    assert re.findall(r"\[([a-z-]+)\]$", wrong, re.MULTILINE) == ["assignment", "call-arg", "attr-defined"]
