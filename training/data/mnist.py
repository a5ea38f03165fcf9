"""MNIST's test set (LeCun, Cortes and Burges 1998): 10,000 digits, from the official IDX files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.labelled import DatasetError, LabelledImages

Bytes = npt.NDArray[np.uint8]


def read_mnist(root: Path) -> LabelledImages:
    """Read ``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz`` in ``root`` or ``root/mnist``.

    Raises:
        DatasetError: a file is missing or is not an IDX file.
    """
    pixels, labels = (_read(root, name, n_axes) for name, n_axes in (("images-idx3", 3), ("labels-idx1", 1)))
    if len(pixels) != len(labels):
        raise DatasetError(f"MNIST in {root} has {len(pixels)} images and {len(labels)} labels")
    return LabelledImages(
        images=[Image.fromarray(image) for image in pixels],
        classes=labels.tolist(),
        sources=list(range(len(labels))),
        class_names=[str(digit) for digit in range(10)],
        groups=[0] * 10,
        group_names=["digits"],
    )


def _read(root: Path, name: str, n_axes: int) -> Bytes:
    places = [folder / f"t10k-{name}-ubyte.gz" for folder in (root, root / "mnist")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DatasetError(f"t10k-{name}-ubyte.gz is neither in {root} nor in {root / 'mnist'}")
    try:
        data = gzip.decompress(file.read_bytes())
        zeros, kind, axes, *shape = struct.unpack_from(f">HBB{n_axes}I", data)
        if (zeros, kind, axes) != (0, 8, n_axes):
            raise DatasetError(f"{file} is no IDX file of bytes with {n_axes} axes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * n_axes).reshape(shape)
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
