"""Patches of photographs to place under symbols: read from Caltech-101, and packed into one small file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from training.data.labelled import DatasetError

_NAME: Final = "caltech101"
_COLUMNS: Final = 32
_QUALITY: Final = 72
_READ: Final = "01234567"
"""Classes are read if the SHA-1 of their name begins with one of these digits; the others are kept for tests."""


def read_grounds(datasets: Path, count: int = 1504, side: int = 96, seed: int = 0) -> Tensor:
    """Return ``count`` square patches of Caltech-101's photographs, shape (count, 3, side, side), as bytes.

    ``caltech101.zip`` is expected in ``datasets`` or in its sub-folder ``caltech101``. Patches come from half of the
    classes: those for which the SHA-1 of the name begins with a digit from 0 to 7.

    Raises:
        DatasetError: the file is missing, or an entry is not an image.
    """
    photographs = list(_photographs(datasets))
    rng = np.random.default_rng(seed)
    chosen = [photographs[index] for index in rng.permutation(np.arange(count) % len(photographs))]
    return torch.from_numpy(np.stack([_patch(image, side, rng) for image in chosen])).permute(0, 3, 1, 2).contiguous()


def _photographs(datasets: Path) -> Iterator[Image.Image]:
    places = (datasets / _NAME / f"{_NAME}.zip", datasets / f"{_NAME}.zip")
    file = next(filter(Path.exists, places), None)
    if file is None:
        raise DatasetError(f"{_NAME}.zip is neither in {datasets} nor in {datasets / _NAME}")
    try:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                path = PurePosixPath(name)
                digest = hashlib.sha1(path.parent.name.encode(), usedforsecurity=False).hexdigest()
                if path.suffix == ".jpg" and digest[0] in _READ:
                    yield Image.open(io.BytesIO(archive.read(name))).convert("RGB")
    except (zipfile.BadZipFile, UnidentifiedImageError, OSError) as error:
        raise DatasetError(f"{file}: {error}") from error


def _patch(image: Image.Image, side: int, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return a random square (side, side, 3), cropped at between half and all of the shorter side."""
    shorter = min(image.size)
    length = int(rng.integers(max(1, shorter // 2), shorter + 1))
    left, top = (int(rng.integers(0, whole - length + 1)) for whole in image.size)
    box = (left, top, left + length, top + length)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box), dtype=np.uint8)


def pack_grounds(grounds: Tensor, file: Path) -> None:
    """Write patches (m, 3, side, side), m a multiple of 32, as one JPEG mosaic."""
    m, channels, side, _ = grounds.shape
    rows = grounds.view(m // _COLUMNS, _COLUMNS, channels, side, side).permute(0, 3, 1, 4, 2)
    mosaic = rows.reshape(m // _COLUMNS * side, _COLUMNS * side, channels)
    Image.fromarray(mosaic.numpy()).save(file, "JPEG", quality=_QUALITY, optimize=True)


def unpack_grounds(file: Path) -> Tensor:
    """Return the patches that ``pack_grounds`` wrote, up to JPEG's loss.

    Raises:
        DatasetError: the file cannot be read, or is not such a mosaic.
    """
    try:
        mosaic = np.asarray(Image.open(file, formats=["JPEG"]).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DatasetError(f"{file}: {error}") from error
    side = mosaic.shape[1] // _COLUMNS
    if not side or mosaic.shape[1] % _COLUMNS or mosaic.shape[0] % side:
        raise DatasetError(f"{file} is no mosaic of {_COLUMNS} square patches a row")
    patches = torch.tensor(mosaic).view(-1, side, _COLUMNS, side, 3).permute(0, 2, 4, 1, 3)
    return patches.reshape(-1, 3, side, side)
