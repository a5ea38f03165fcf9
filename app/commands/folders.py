"""Which images a person means by files and folders, and what their classes are called."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The service tells formats by the bytes; a name only decides what of a folder is taken to be an image.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
)


@dataclass(frozen=True)
class Labelled:
    """An image's file and its class."""

    label: str
    file: Path


def images_of(paths: Sequence[Path]) -> list[Path]:
    """The files, and the images directly or deeper in the folders, in the order of their names.

    Raises FileNotFoundError for a path that isn't there, ValueError when there is no image at all.
    """
    found = [file for path in paths for file in _files(path)]
    if not found:
        raise ValueError(f"no image in {', '.join(map(str, paths))}")
    return found


def labelled_of(paths: Sequence[Path], label: str | None = None) -> list[Labelled]:
    """The images and their classes: `label` for all; else the name of the sub-folder, or the file's name without its
    suffix. What `oneshot export` wrote has its labels in a file. Raises as `images_of` does."""
    items: list[Labelled] = []
    for path in paths:
        labels = _exported_labels(path)
        for file in _files(path):
            inside = file.relative_to(path).parts if path.is_dir() else (file.name,)
            name = inside[0] if len(inside) > 1 else file.stem
            items.append(Labelled(label or labels.get(name, name), file))
    if not items:
        raise ValueError(f"no image in {', '.join(map(str, paths))}")
    return items


def _exported_labels(path: Path) -> dict[str, str]:
    """The label of each sub-folder, where `oneshot export` wrote the folder."""
    file = path / "labels.json"
    if not file.is_file():
        return {}
    labels = json.loads(file.read_text("utf-8"))
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise ValueError(f"{file} is not what 'oneshot export' writes")
    return labels


def in_two_rounds(items: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """The first image of each class, and the others, which are added once the first are there."""
    first: dict[str, Labelled] = {}
    for item in items:
        first.setdefault(item.label, item)
    return list(first.values()), [item for item in items if first[item.label] is not item]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.is_file() and not hidden and file.suffix.lower() in SUFFIXES:
                yield file
    elif path.exists():
        yield path
    else:
        raise FileNotFoundError(f"{path}: no such file or folder")
