"""Any folder of images, one sub-folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from PIL import Image

from model.images import ImageError, decode_image
from training.data.labelled import DatasetError, LabelledImages


class _Files(Sequence[Image.Image]):
    """Images that are decoded when they are asked for: photographs in full size need not fit into memory together."""

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
    """Read every image of every sub-folder of ``root``; hidden files and folders are passed over.

    All classes form one group, and every image is taken to be of another source.

    Raises:
        DatasetError: no folder, fewer than two classes, a class without an image, no class with two, or a file that
            is no image.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder")
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if len(folders) < 2:
        raise DatasetError(
            f"{root} has {len(folders)} sub-folders; it takes one for each class, and at least two classes"
        )
    files: list[Path] = []
    classes: list[int] = []
    for label, folder in enumerate(folders):
        own = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
        if not own:
            raise DatasetError(f"{folder} holds no image")
        files += own
        classes += [label] * len(own)
    if len(files) == len(folders):
        raise DatasetError(f"{root} has a single image of each class; at least one class takes two")
    for file in files:
        _read(file)  # what cannot be read is named before any work is done
    return LabelledImages(
        images=_Files(files),
        classes=classes,
        sources=list(range(len(files))),
        class_names=[folder.name for folder in folders],
        groups=[0] * len(folders),
        group_names=[root.name],
    )


def _read(file: Path) -> Image.Image:
    try:
        return decode_image(file.read_bytes())
    except (ImageError, OSError) as error:
        raise DatasetError(f"{file}: {error}") from error
