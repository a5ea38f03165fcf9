"""Which images a person means by files and folders, and what their classes are called."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

#: The service tells formats by the bytes; a name only decides what of a folder is taken to be an image.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"}
)
#: What `oneshot export` says of its sub-folders.
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class Enrolled:
    """What became of one image: `status` 201 for a new class, 200 for one that was there, else a problem.

    `skipped` says that the class had the image already.
    """

    file: str
    label: str
    status: int
    problem: str | None = None
    detail: str | None = None
    skipped: bool = False


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
        file = path / LABELS_FILE
        labels = exported_labels(file.read_bytes(), str(file)) if file.is_file() else {}
        for each in _files(path):
            inside = each.relative_to(path).parts if path.is_dir() else (each.name,)
            items.append(Labelled(label or label_of(inside, labels), each))
    if not items:
        raise ValueError(f"no image in {', '.join(map(str, paths))}")
    return items


def label_of(inside: Sequence[str], labels: Mapping[str, str]) -> str:
    """The label of the image that has this path in its folder; `labels` are those of an export's sub-folders."""
    name = inside[0] if len(inside) > 1 else PurePath(inside[0]).stem
    return labels.get(name, name)


def is_image(inside: Sequence[str]) -> bool:
    """Whether what has this path in a folder is taken to be an image."""
    return PurePath(inside[-1]).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in inside)


def exported_labels(content: bytes, name: str) -> dict[str, str]:
    """The label of each sub-folder, from the file that `oneshot export` wrote. Raises ValueError."""
    labels = json.loads(content.decode("utf-8"))
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise ValueError(f"{name} is not what 'oneshot export' writes")
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
            if is_image(file.relative_to(path).parts) and file.is_file():
                yield file
    elif path.exists():
        yield path
    else:
        raise FileNotFoundError(f"{path}: no such file or folder")
