"""Which images a person means by files and folders, and what their classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.folders import LABELS_FILE, exported_labels, files_in, is_image, label_of


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


@dataclass
class Found:
    """The images that files and folders hold, and what else lies there and is passed over."""

    items: list[Labelled] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The images without their classes."""
        return [item.file for item in self.items]


def find_images(paths: Sequence[Path], label: str | None = None) -> Found:
    """The files, and the images directly or deeper in the folders, in the order of their names, with their classes.

    The class is `label` for all; else the name of the sub-folder, or the file's name without its suffix. What
    `oneshot export` wrote has its labels in a file. Raises OSError for a path that isn't there or a folder that can't
    be read, ValueError when there is no image at all.
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
