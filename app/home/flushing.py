"""Putting what was written on the disk, so that it is there after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def flush(path: Path) -> None:
    """Put a file's content on the disk; of a folder, the names in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(folder: Path, names: Iterable[str]) -> None:
    """Put the named files of a folder on the disk, and the folder itself."""
    for name in names:
        flush(folder / name)
    flush(folder)
