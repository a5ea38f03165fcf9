"""Flushes written files to the disk, so that they survive a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def flush(path: Path) -> None:
    """Flush a file's content to the disk; of a folder, its entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(folder: Path, names: Iterable[str]) -> None:
    """Flush the named files of a folder to the disk, and the folder itself."""
    for name in names:
        flush(folder / name)
    flush(folder)
