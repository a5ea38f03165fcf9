"""Which files of a folder are taken to be images, and what their classes are called.

One rule for all that read folders: `oneshot enroll` and `classify`, a zip file sent to the service, `oneshot-train`.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Final

#: The service tells formats by the bytes; a name only decides what of a folder is taken to be an image.
SUFFIXES: Final = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".bmp", ".dib", ".gif", ".tif"}
    | {".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
    # what is not accepted in every installation is refused by name there, not left out
    | {".heic", ".heif", ".hif", ".avif", ".jp2", ".jxl"}
)
#: What `oneshot export` says of its sub-folders.
LABELS_FILE: Final = "labels.json"


def is_image(inside: Sequence[str]) -> bool:
    """Whether what has this path in a folder is taken to be an image; nothing hidden, or of macOS's own, is one."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside)
    return not hidden and PurePath(inside[-1]).suffix.lower() in SUFFIXES


def label_of(inside: Sequence[str], labels: Mapping[str, str]) -> str:
    """The label of the image that has this path in its folder: the sub-folder's name, or the file's without suffix.

    In Unicode's form NFC, as the service keeps labels, so that two spellings of one name are one class. `labels` are
    those of an export's sub-folders.
    """
    name = inside[0] if len(inside) > 1 else PurePath(inside[0]).stem
    return unicodedata.normalize("NFC", labels.get(name, name)).strip()


def files_in(folder: Path) -> list[Path]:
    """All that lies in the folder or deeper and is no folder, in the order of the names; hidden files too.

    A link to a folder comes as itself: to follow it might lead round in circles. Raises OSError for a folder that
    can't be read.
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
    """The label of each sub-folder, from the file that `oneshot export` wrote. Raises ValueError."""
    try:
        labels = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise ValueError(f"{name} is not what 'oneshot export' writes")
    return labels


def printable(name: str | os.PathLike[str]) -> str:
    r"""A file's name that any output takes: bytes of it that are no UTF-8 are written as ``\xfc``."""
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
