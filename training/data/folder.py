"""Any folder of images with one sub-folder per class."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from PIL import Image

from model.folders import files_in, is_image, printable
from model.images import ImageError, decode_image
from training.data.labelled import DatasetError, LabelledImages

#: Most broken files that the error names; further ones are only counted.
_NAMED = 20


class _Files(Sequence[Image.Image]):
    """Images decoded on access, because full-size photographs may not fit into memory together."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> _Files: ...
    def __getitem__(self, place: int | slice) -> Image.Image | _Files:
        return _Files(self._files[place]) if isinstance(place, slice) else _read(self._files[place])


def read_folder(root: Path) -> LabelledImages:
    """Read every image in every sub-folder of ``root``, at any depth; skips the files that `oneshot enroll` skips.

    All classes form one group, and every image counts as a source of its own.

    Raises:
        DatasetError: not a folder, fewer than two classes, a class without images, no class with two images, or files
            that cannot be decoded (the first 20 are named).
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder")
    folders = _classes(root)
    if len(folders) < 2:
        raise DatasetError(
            f"{root} has {len(folders)} sub-folders; it takes one for each class, and at least two classes"
        )
    files: list[Path] = []
    classes: list[int] = []
    for label, places in enumerate(folders.values()):
        own = [file for place in places for file in _images(place)]
        if not own:
            raise DatasetError(f"{places[0]} holds no image")
        files += own
        classes += [label] * len(own)
    if len(files) == len(folders):
        raise DatasetError(f"{root} has a single image of each class; at least one class takes two")
    _check(files)
    return LabelledImages(
        images=_Files(files),
        classes=classes,
        sources=list(range(len(files))),
        class_names=list(folders),
        groups=[0] * len(folders),
        group_names=[root.name],
    )


def _classes(root: Path) -> dict[str, list[Path]]:
    """The sub-folders by class name, in order; names that are equal in Unicode NFC are one class."""
    found: dict[str, list[Path]] = {}
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name != "__MACOSX":
            found.setdefault(unicodedata.normalize("NFC", entry.name), []).append(entry)
    return found


def _images(folder: Path) -> list[Path]:
    return [file for file in files_in(folder) if is_image(file.relative_to(folder).parts) and file.is_file()]


def _check(files: Sequence[Path]) -> None:
    """Raise an error that names unreadable files, before any work is done."""
    broken: list[str] = []
    for file in files:
        try:
            _read(file)
        except DatasetError as error:
            broken.append(str(error))
    if broken:
        more = f"\nand {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise DatasetError("\n".join(broken[:_NAMED]) + more)


def _read(file: Path) -> Image.Image:
    try:
        return decode_image(file.read_bytes())
    except (ImageError, OSError) as error:
        raise DatasetError(f"{printable(file)}: {error}") from error
