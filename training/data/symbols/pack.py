"""A pack of drawings in one file; only the alpha of drawings in ink is stored."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.camera.geometry import SIDE
from training.data.labelled import DatasetError, PreparedImages
from training.data.symbols.concepts import Concept, Split
from training.data.symbols.drawing import Drawing

VERSION: Final = 1


@dataclass(frozen=True)
class Drawn:
    """A drawing with its concept and the hand that drew it."""

    concept: Concept
    hand: str
    pixels: Drawing


@dataclass(frozen=True)
class Pack:
    """Labelled drawings: ``alpha`` (n, 64, 64) of those in ink, ``colour`` (m, 64, 64, 4) of the others.

    ``classes`` and ``hands`` (n + m,) list the drawings in ink first. ``names``, ``families`` and ``splits``
    (n_classes,) describe the classes; ``hand_names`` are the names of the hands.
    """

    alpha: npt.NDArray[np.uint8]
    colour: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    hands: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    families: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    hand_names: npt.NDArray[np.str_]

    def part(self, split: Split) -> PreparedImages:
        """Return the drawings of a split's classes, pixels (k, 4, 64, 64).

        ``groups`` are the families, ``sources`` the hands.
        """
        kept = np.flatnonzero(self.splits == split)
        number = np.full(len(self.names), -1)
        number[kept] = np.arange(len(kept))
        places = np.flatnonzero(number[self.classes] >= 0)
        _, groups = np.unique(self.families[kept], return_inverse=True)
        return PreparedImages(
            self._pixels(places),
            torch.from_numpy(number[self.classes[places]]),
            torch.from_numpy(self.hands[places]),
            torch.from_numpy(groups.astype(np.int64)),
        )

    def kinds(self, split: Split) -> list[str]:
        """Return the kind of each class of a split, such as ``letter``: its family without the script."""
        return [family.partition("/")[0] for family in self.families[self.splits == split].tolist()]

    def _pixels(self, places: npt.NDArray[np.int64]) -> Tensor:
        pixels = np.zeros((len(places), 4, SIDE, SIDE), np.uint8)
        n = len(self.alpha)
        ink = places < n
        pixels[ink, 3] = self.alpha[places[ink]]
        pixels[~ink] = self.colour[places[~ink] - n].transpose(0, 3, 1, 2)
        return torch.from_numpy(pixels)


def make_pack(
    drawings: Sequence[Sequence[Drawn]], names: Sequence[str], families: Sequence[str], splits: Sequence[Split]
) -> Pack:
    """Make a pack from the drawings of each class."""
    flat = [(number, each) for number, members in enumerate(drawings) for each in members]
    ink = [each for each in flat if not each[1].pixels[:, :, :3].any()]
    coloured = [each for each in flat if each[1].pixels[:, :, :3].any()]
    hand_names, hands = np.unique([each.hand for _, each in ink + coloured], return_inverse=True)
    return Pack(
        alpha=np.array([each.pixels[:, :, 3] for _, each in ink], np.uint8).reshape(-1, SIDE, SIDE),
        colour=np.array([each.pixels for _, each in coloured], np.uint8).reshape(-1, SIDE, SIDE, 4),
        classes=np.array([number for number, _ in ink + coloured], np.int64),
        hands=hands.astype(np.int64),
        names=np.array(names, np.str_),
        families=np.array(families, np.str_),
        splits=np.array(splits, np.str_),
        hand_names=hand_names,
    )


def write_pack(pack: Pack, file: Path) -> None:
    """Write ``pack``; a crash leaves the old file or the new one."""
    part = file.with_suffix(".part")
    with part.open("wb") as handle:
        np.savez_compressed(handle, version=VERSION, **vars(pack))
    part.replace(file)


def read_pack(file: Path) -> Pack:
    """Read what ``write_pack`` wrote.

    Raises:
        DatasetError: the file is missing, or is not a pack of this version.
    """
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as content:
            if int(content["version"]) != VERSION:
                raise DatasetError(f"{file} is of version {content['version']}, not {VERSION}; build it anew")
            return Pack(**{name: content[name] for name in Pack.__dataclass_fields__})
    except FileNotFoundError as error:
        raise DatasetError(f"{file} is not there; 'oneshot-train download symbols' makes it") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file} is no pack of symbols: {error}") from error
