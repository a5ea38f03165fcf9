"""Fetch the npm packages from which the set is rendered, in the versions of the lock file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from training.data.labelled import DatasetError

_LOCK: Final = Path(__file__).parent
PACKAGES: Final = "node_modules"
"""Folder of the packages, next to the copy of the lock file."""


def download_packages(folder: Path) -> Path:
    """Fetch all packages into ``folder`` and return the folder that holds them; npm verifies their digests.

    Raises:
        DatasetError: npm is not installed, or a package cannot be fetched.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DatasetError("npm is not installed, which fetches icons and fonts; on Debian: apt-get install npm")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_LOCK / name, folder / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own list
    if done.returncode:
        why = next(
            (line for line in done.stderr.splitlines() if line.startswith("npm error")), f"exit {done.returncode}"
        )
        raise DatasetError(f"{folder}: npm ci failed: {why.removeprefix('npm error ')}")
    return folder / PACKAGES
