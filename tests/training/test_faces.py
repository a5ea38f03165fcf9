"""The reader of the AT&T faces, on synthetic files and, if available, on the real ones."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from testing.factories import encode
from training.data.faces import read_faces, split_people
from training.data.labelled import DatasetError

PEOPLE, PHOTOGRAPHS = 12, 10


def write_faces(root: Path, people: int = PEOPLE) -> Path:
    """Write synthetic people as ``s1/1.pgm`` and so on: a person is a random pattern, a photograph adds noise to it."""
    rng = np.random.default_rng(0)
    for person in range(1, people + 1):
        (root / f"s{person}").mkdir(parents=True)
        face = rng.uniform(60, 200, (14, 12))
        for photograph in range(1, PHOTOGRAPHS + 1):
            pixels = np.clip(face + rng.normal(0, 30, face.shape), 0, 255).astype(np.uint8)
            (root / f"s{person}" / f"{photograph}.pgm").write_bytes(encode(Image.fromarray(pixels), "PPM"))
    return root


def test_folder_and_zip_read_alike(tmp_path):
    folder = write_faces(tmp_path / "folder" / "att_faces")
    with zipfile.ZipFile(tmp_path / "att_faces.zip", "w") as archive:
        archive.writestr("att_faces/README", "credit: Olivetti Research Laboratory")
        for file in sorted(folder.rglob("*.pgm")):
            archive.write(file, file.relative_to(folder.parent))
    readings = [read_faces(place) for place in (folder, folder.parent, tmp_path)]
    for reading in readings:
        assert reading.class_names == [f"s{person}" for person in range(1, PEOPLE + 1)], "s2 before s10"
        assert list(reading.classes) == [person for person in range(PEOPLE) for _ in range(PHOTOGRAPHS)]
        assert list(reading.sources) == list(range(1, PHOTOGRAPHS + 1)) * PEOPLE
        assert np.array_equal(np.asarray(reading.images[37]), np.asarray(readings[0].images[37]))


def test_people_are_split_without_one_in_both(tmp_path):
    images = read_faces(write_faces(tmp_path))
    train, test = split_people(PEOPLE, 4, split=5)
    assert (len(train), len(test)) == (8, 4)
    assert sorted(train + test) == list(range(PEOPLE))
    assert split_people(PEOPLE, 4, split=5) == (train, test)
    assert any(split_people(PEOPLE, 4, split=split)[1] != test for split in range(3))
    part = images.of_classes(test)
    assert part.class_names == [images.class_names[person] for person in test]
    assert list(part.classes) == [person for person in range(4) for _ in range(PHOTOGRAPHS)]
    first = images.images[images.classes.index(test[2])]
    assert np.array_equal(np.asarray(part.images[2 * PHOTOGRAPHS]), np.asarray(first))


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(DatasetError, match="neither"):
        read_faces(tmp_path)
    (tmp_path / "att_faces.zip").write_bytes(b"no zip")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_faces(tmp_path)
    with zipfile.ZipFile(tmp_path / "att_faces.zip", "w") as archive:
        archive.writestr("README", "no faces")
    with pytest.raises(DatasetError, match=r"holds no s1/1\.pgm"):
        read_faces(tmp_path)
    (tmp_path / "att_faces" / "s3").mkdir(parents=True)
    (tmp_path / "att_faces" / "s3" / "4.pgm").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"s3/4\.pgm"):
        read_faces(tmp_path)


@pytest.mark.skipif("ONESHOT_DATASETS" not in os.environ, reason="ONESHOT_DATASETS names no data")
def test_the_real_files():
    images = read_faces(Path(os.environ["ONESHOT_DATASETS"]))
    assert (len(images.class_names), len(images.images)) == (40, 400)
    assert {image.size for image in images.images} == {(92, 112)}
    assert np.bincount(images.classes).tolist() == [10] * 40
