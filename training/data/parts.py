"""The data settings of a recipe, and the division into training classes and held-out classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, Tag

from model.calibration import LEAST_CLASSES, LEAST_GENUINE, LEAST_IMPOSTOR
from training.data.division import Division
from training.data.faces import read_faces, split_people
from training.data.folder import read_folder
from training.data.labelled import DatasetError, LabelledImages
from training.data.omniglot import read_omniglot
from training.data.symbols.part import SymbolsPart
from training.objectives import Part


class _Data(Part):
    rotations: bool = Field(
        default=False, description="Count an alphabet turned by 90, 180 and 270 degrees as new ones."
    )


class OmniglotPart(_Data):
    """Omniglot's background set, or any images in its layout; whole alphabets are held out."""

    kind: Literal["omniglot"] = "omniglot"
    held_out: tuple[str, ...] = Field(min_length=1, description="Alphabets that are never trained on.")
    training_drawers: tuple[int, ...] = Field(default=(), description="Train on these drawers' images; empty: all.")
    held_out_drawers: tuple[int, ...] = Field(default=(), description="Hold out these drawers' images; empty: all.")

    def read(self, datasets: Path) -> Division:
        """Read and divide the background set in ``datasets``."""
        images = read_omniglot(datasets, "background")
        drawers = f"{len(self.held_out_drawers)} drawers" if self.held_out_drawers else "all drawers"
        return Division(
            images.without_groups(self.held_out).of_sources(self.training_drawers),
            images.in_groups(self.held_out).of_sources(self.held_out_drawers),
            f"{len(self.held_out)} held-out Omniglot background alphabets, {drawers}",
            n_way=20,
            within_share=_within_share(images),
        )


class FacesPart(_Data):
    """The AT&T faces, divided by people."""

    kind: Literal["faces"] = "faces"
    split: int = Field(default=0, ge=0, description="Seed that draws the people to train on.")
    held_out: int = Field(default=10, ge=2, le=38, description="People that are never trained on.")
    inner: bool = Field(
        default=False, description="Divide the training people once more and never read the others: to choose settings."
    )

    def read(self, datasets: Path) -> Division:
        """Read and divide the faces in ``datasets``."""
        images = read_faces(datasets)
        training, held_out = split_people(len(images.class_names), self.held_out, self.split)
        if self.inner:
            images = images.of_classes(training)
            training, held_out = split_people(len(training), self.held_out, self.split)
        source = f"{self.held_out} held-out people of the AT&T faces, split {self.split}{', inner' * self.inner}"
        return Division(images.of_classes(training), images.of_classes(held_out), source, n_way=min(10, self.held_out))


class FolderPart(_Data):
    """Any folder of images with one sub-folder per class."""

    kind: Literal["folder"] = "folder"
    held_out: float = Field(default=0.3, gt=0, lt=1, description="Share of the classes that is never trained on.")
    split: int = Field(default=0, ge=0, description="Seed that draws the held-out classes.")

    def read(self, datasets: Path) -> Division:
        """Read and divide the folder ``datasets``; a class with a single image is never held out.

        Raises:
            DatasetError: the folder cannot be read, or has too few classes with several images.
        """
        images = read_folder(datasets)
        counts = np.bincount(images.classes)
        several = np.random.default_rng(self.split).permutation(np.flatnonzero(counts > 1))
        wanted = max(_enough(counts[several]), round(self.held_out * len(counts)))
        if wanted > len(several) or wanted > len(counts) - 2:
            raise DatasetError(
                f"{datasets} has {len(counts)} classes and {len(images.classes)} images, too few to train on some of "
                f"them and calibrate on others ({LEAST_CLASSES} classes or more, with {LEAST_GENUINE} pairs of images "
                "of one class); to enrol several images of each class needs no training"
            )
        held_out = several[:wanted]
        training = np.setdiff1d(np.arange(len(counts)), held_out)
        source = f"{wanted} held-out classes of the folder {datasets.resolve().name}"
        return Division(images.of_classes(training.tolist()), images.of_classes(sorted(held_out.tolist())), source)


def _enough(counts: npt.NDArray[np.int64]) -> int:
    """Return how many of the first classes suffice for a calibration; one more than there are if even all do not."""
    genuine = np.cumsum(counts * (counts - 1)) // 2
    total = np.cumsum(counts)
    fine = (genuine >= LEAST_GENUINE) & (total * (total - 1) // 2 - genuine >= LEAST_IMPOSTOR)
    fine[: LEAST_CLASSES - 1] = False
    return int(np.argmax(fine)) + 1 if fine.any() else len(counts) + 1


def _kind(value: Any) -> str:
    return str(value.get("kind", "omniglot") if isinstance(value, dict) else value.kind)


DataPart = Annotated[
    Annotated[OmniglotPart, Tag("omniglot")]
    | Annotated[FacesPart, Tag("faces")]
    | Annotated[FolderPart, Tag("folder")]
    | Annotated[SymbolsPart, Tag("symbols")],
    Discriminator(_kind),
]


def _within_share(images: LabelledImages) -> float:
    """Return the share of class pairs within one alphabet when all alphabets are enrolled."""
    sizes = np.bincount(np.asarray(images.groups))
    return float((sizes * (sizes - 1)).sum() / (sizes.sum() * (sizes.sum() - 1)))
