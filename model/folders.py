"""Which files of a folder count as images, and their labels.

One rule for every reader of folders: `oneshot enroll` and `classify`, zip files sent to the service, `oneshot-train`.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Final

#: Only selects the images of a folder; the service detects the format from the bytes.
SUFFIXES: Final = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".bmp", ".dib", ".gif", ".tif"}
    | {".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
    # formats that some installations can't read: they report such a file instead of skipping it
    | {".heic", ".heif", ".hif", ".avif", ".jp2", ".jxl"}
)
#: Written by `oneshot export`: the label of each sub-folder.
LABELS_FILE: Final = "labels.json"


def is_image(inside: Sequence[str]) -> bool:
    """Whether the file with this path in a folder counts as an image; hidden and macOS metadata files do not."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside)
    return not hidden and PurePath(inside[-1]).suffix.lower() in SUFFIXES


def label_of(inside: Sequence[str], labels: Mapping[str, str]) -> str:
    """The label of the image with this path in its folder: the sub-folder's name, or the file name without suffix.

    Labels are in Unicode NFC, as in the service, so that two encodings of one name are one class. `labels` maps the
    sub-folders of an export to their labels.
    """
    name = inside[0] if len(inside) > 1 else PurePath(inside[0]).stem
    return unicodedata.normalize("NFC", labels.get(name, name)).strip()


def files_in(folder: Path) -> list[Path]:
    """All files in the folder and below, sorted by path, hidden ones included.

    A symbolic link to a folder is returned as is and not followed, because links can form cycles. Raises OSError for a
    folder that can't be read.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        inside = Path(place)
        found += [inside / name for name in names]
        found += [inside / name for name in folders if (inside / name).is_symlink()]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def exported_labels(content: bytes, name: str) -> dict[str, str]:
    """The label of each sub-folder, from a file written by `oneshot export`. Raises ValueError if it is not one."""
    try:
        labels = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise ValueError(f"{name} is not what 'oneshot export' writes")
    return labels


def printable(name: str | os.PathLike[str]) -> str:
    r"""The file name in a form that any output can encode: bytes that are not UTF-8 become ``\xfc``."""
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
