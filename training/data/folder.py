"""Any folder of images, one sub-folder a class."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from model.images import ImageError, decode_image
from training.data.labelled import DatasetError, LabelledImages


def read_folder(root: Path) -> LabelledImages:
    """Read every image of every sub-folder of ``root``; hidden files and folders are passed over.

    All classes form one group, and every image is taken to be of another source.

    Raises:
        DatasetError: no folder, fewer than two classes, a class without an image, or a file that is no image.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder")
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    if len(folders) < 2:
        raise DatasetError(
            f"{root} has {len(folders)} sub-folders; it takes one for each class, and at least two classes"
        )
    images: list[Image.Image] = []
    classes: list[int] = []
    for label, folder in enumerate(folders):
        files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
        if not files:
            raise DatasetError(f"{folder} holds no image")
        images += [_read(file) for file in files]
        classes += [label] * len(files)
    return LabelledImages(
        images=images,
        classes=classes,
        sources=list(range(len(images))),
        class_names=[folder.name for folder in folders],
        groups=[0] * len(folders),
        group_names=[root.name],
    )


def _read(file: Path) -> Image.Image:
    try:
        return decode_image(file.read_bytes())
    except (ImageError, OSError) as error:
        raise DatasetError(f"{file}: {error}") from error
