"""The IDX reader, on synthetic files and, if available, on the real ones."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from training.data.labelled import DatasetError
from training.data.mnist import read_mnist


def write(root, pixels, labels):
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">HBB3I", 0, 8, 3, *pixels.shape) + pixels.tobytes())
    )
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, len(labels)) + labels.tobytes())
    )


def test_images_and_labels(tmp_path):
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    write(tmp_path, pixels, np.array([7, 0, 9], np.uint8))
    images = read_mnist(tmp_path)
    assert np.array_equal(np.asarray(images.images[1]), pixels[1])
    assert list(images.classes) == [7, 0, 9]
    assert len(images.class_names) == 10


def test_files_that_are_missing_or_none(tmp_path):
    with pytest.raises(DatasetError, match="neither"):
        read_mnist(tmp_path)
    write(tmp_path, np.zeros((3, 4, 5), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(DatasetError, match="3 images and 2 labels"):
        read_mnist(tmp_path)
    for content in (b"no gzip", gzip.compress(b"\0\0"), gzip.compress(struct.pack(">HBB3I", 0, 9, 3, 1, 1, 1) + b"0")):
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(DatasetError, match="images-idx3"):
            read_mnist(tmp_path)


@pytest.mark.skipif("ONESHOT_DATASETS" not in os.environ, reason="ONESHOT_DATASETS names no data")
def test_the_real_files():
    images = read_mnist(Path(os.environ["ONESHOT_DATASETS"]))
    assert len(images.images) == 10_000
    assert images.images[0].size == (28, 28)
    assert np.bincount(images.classes).min() > 800
