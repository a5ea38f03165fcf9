"""Finds images and their class labels in files and folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.folders import LABELS_FILE, exported_labels, files_in, is_image, label_of


@dataclass(frozen=True)
class Enrolled:
    """Result of enrolling one image: `status` is 201 for a new class, 200 for an existing one, else that of a problem.

    `skipped`: the class already had the image.
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


@dataclass
class Found:
    """The images in files and folders, and the other files there, which are skipped."""

    items: list[Labelled] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The images without their classes."""
        return [item.file for item in self.items]


def find_images(paths: Sequence[Path], label: str | None = None) -> Found:
    """Find images in files and, recursively, in folders, in the order of their names, with their classes.

    The class is `label` if given, else the sub-folder's name, or the file's name without its suffix. A folder written
    by `oneshot export` lists its labels in a file. Raises OSError for a path that doesn't exist or a folder that can't
    be read, ValueError when there are no images.
    """
    found = Found()
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"{path}: no such file or folder")
            found.items.append(Labelled(label or label_of((path.name,), {}), path))
            continue
        file = path / LABELS_FILE
        labels = exported_labels(file.read_bytes(), str(file)) if file.is_file() else {}
        for each in files_in(path):
            inside = each.relative_to(path).parts
            if is_image(inside) and each.is_file():
                found.items.append(Labelled(label or label_of(inside, labels), each))
            elif each != file:
                found.passed_over.append(each)
    if not found.items:
        raise ValueError(f"no image in {', '.join(map(str, paths))}")
    return found
