"""The AT&T (ORL) faces: 40 people, ten grey photographs of 92 x 112 pixels each.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification" (1994). Credit: Olivetti
Research Laboratory.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from model.images import ImageError, decode_image
from training.data.labelled import DatasetError, LabelledImages

_NAME: Final = "att_faces"
_PLACE: Final = re.compile(r"(?:^|/)s(\d+)/(\d+)\.pgm$")
"""``s7/3.pgm``: the third photograph of person 7."""


def read_faces(root: Path) -> LabelledImages:
    """Read ``s1/1.pgm`` to ``s40/10.pgm`` from a folder, or from ``att_faces.zip``.

    They are expected in ``root`` or in its sub-folder ``att_faces``. Each person is a class, in numerical order. A
    photograph's number is its source. All people form one group, ``people``.

    Raises:
        DatasetError: the faces are missing, or a file is not an image.
    """
    files = sorted(_files(root))
    people = sorted({person for person, _, _ in files})
    number = {person: index for index, person in enumerate(people)}
    images = []
    for person, photograph, data in files:
        try:
            images.append(decode_image(data).convert("L"))
        except ImageError as error:
            raise DatasetError(f"s{person}/{photograph}.pgm in {root}: {error}") from error
    return LabelledImages(
        images=images,
        classes=[number[person] for person, _, _ in files],
        sources=[photograph for _, photograph, _ in files],
        class_names=[f"s{person}" for person in people],
        groups=[0] * len(people),
        group_names=["people"],
    )


def split_people(n_people: int, n_test: int, split: int) -> tuple[list[int], list[int]]:
    """Return the training people and the ``n_test`` test people of split 0, 1, 2 and so on, each sorted.

    The permutations are consecutive ones of numpy's ``RandomState(0)``, whose stream is stable between releases. With
    40 people its first ten splits reproduce the published figures of plain baselines.
    """
    stream = np.random.RandomState(0)
    order = [stream.permutation(n_people) for _ in range(split + 1)][split]
    return sorted(order[:-n_test].tolist()), sorted(order[-n_test:].tolist())


def _files(root: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield person, photograph number and content."""
    for base in (root / _NAME, root):
        found = [(place, file) for file in base.glob("s*/*.pgm") if (place := _PLACE.search(file.as_posix()))]
        if found:
            yield from ((int(place[1]), int(place[2]), file.read_bytes()) for place, file in found)
            return
        if (base / f"{_NAME}.zip").is_file():
            yield from _zipped(base / f"{_NAME}.zip")
            return
    raise DatasetError(f"neither s1/1.pgm nor {_NAME}.zip is in {root} or in {root / _NAME}")


def _zipped(file: Path) -> Iterator[tuple[int, int, bytes]]:
    try:
        with zipfile.ZipFile(file) as archive:
            places = [(_PLACE.search(PurePosixPath(name).as_posix()), name) for name in archive.namelist()]
            found = [(int(place[1]), int(place[2]), archive.read(name)) for place, name in places if place]
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    if not found:
        raise DatasetError(f"{file} holds no s1/1.pgm")
    yield from found
