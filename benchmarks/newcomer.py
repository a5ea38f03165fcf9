"""From a clone to the first correct classification in a clean container: number of commands and time.

    python -m benchmarks.newcomer

Starts the Python image of the Dockerfile with make, git and curl, clones this repository into it and runs the README's
commands. Needs a Docker engine, and installs from the package index configured for pip in the image.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parent.parent
IMAGE = "python:3.11-slim"
NEEDS = "apt-get update -qq && apt-get install -qq -y --no-install-recommends make git curl >/dev/null"
COMMANDS = ("git clone -q /repository oneshot && cd oneshot", "make serve")
"""The commands that a new user types to start the service."""
FIRST_STEPS = """
until curl -sf localhost:8000/readyz >/dev/null; do sleep 0.5; done
.venv/bin/python examples/symbols.py images
for name in arrow house ladder spiral; do
  curl -sf -F label=$name -F image=@images/known/$name.png localhost:8000/enroll >/dev/null
done
curl -sf -F image=@images/new/house.png localhost:8000/classify
"""


def main(json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the result.")] = None) -> None:
    """Run a newcomer's path and print what it took."""
    clone, serve = COMMANDS
    container = _docker(
        "run", "--detach", "--network", "host", "--volume", f"{ROOT}:/repository:ro", IMAGE, "sleep", "3600"
    )
    try:
        _inside(container, NEEDS)
        _inside(container, "git config --global --add safe.directory '*'")
        began = time.monotonic()
        _inside(container, f"cd ~ && {clone} && ({serve} >/tmp/serve.log 2>&1 &)")
        answer = json.loads(_inside(container, f"cd ~/oneshot && {FIRST_STEPS}"))
        seconds = time.monotonic() - began
        torch = _inside(container, "cd ~/oneshot && .venv/bin/python -m pip list --format freeze | grep ^torch==")
        settings = _inside(container, "~/oneshot/.venv/bin/python -m pip config list")
    finally:
        _docker("rm", "--force", container)
    result = {
        "commands": len(COMMANDS),
        "seconds": round(seconds, 1),
        "label": answer["label"],
        "right": answer["label"] == "house",
        "model": answer["model"],
        "torch": torch,
        "wheels_at_hand": "find-links" in settings,
        "image": IMAGE,
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if json_file is not None:
        json_file.write_text(text + "\n", encoding="utf-8")
    raise typer.Exit(0 if result["right"] else 1)


def _inside(container: str, command: str) -> str:
    return _docker("exec", container, "bash", "-ec", command)


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    typer.run(main)
