"""The subject of an evaluation: one artefact, labelled images that it was not trained on, and their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import JsonValue, TypeAdapter

from model.artifact import Artifact
from model.distances import Vectors
from model.embedder import Embedder
from model.manifest import Manifest
from model.preprocess import Preprocess
from training.data.labelled import DatasetError, LabelledImages, PreparedImages, prepare
from training.data.omniglot import read_omniglot
from training.data.parts import DataPart
from training.data.symbols.part import SymbolsPart
from training.episodes import Ints, Trials, free_trials, within_group_trials
from training.evaluate import embed

Part = Literal["evaluation", "held-out"]
"""The evaluation set, used once per frozen recipe, or the classes held out from training, used to choose settings."""
OMNIGLOT: Final = "Omniglot"
EXAM: Final = "Exam concepts, clean and photographed"


@dataclass(frozen=True)
class Subject:
    """``images`` and ``data`` are the same images, decoded and prepared; ``data_name`` describes them."""

    artifact: Artifact
    embedder: Embedder
    images: LabelledImages
    data: PreparedImages
    data_name: str
    part: Part

    @property
    def manifest(self) -> Manifest:
        """The artefact's manifest."""
        return self.artifact.manifest

    @cached_property
    def vectors(self) -> Vectors:
        """The index-form vectors (n, dim) of all images."""
        return embed(self.embedder, self.data.pixels)

    @cached_property
    def classes(self) -> Ints:
        """The class of each image, (n,)."""
        return self.data.classes.numpy()

    @cached_property
    def groups(self) -> Ints:
        """The group of each image, (n,)."""
        return self.data.groups.numpy()[self.classes]

    @cached_property
    def class_clusters(self) -> Ints:
        """Bootstrap cluster of each class: its group, or the class itself if there is only one group."""
        return self.data.groups.numpy() if self.grouped else np.arange(self.data.n_classes)

    @property
    def is_omniglot(self) -> bool:
        """Whether this is Omniglot's evaluation set, which has its own protocols and published figures."""
        return self.data_name == OMNIGLOT

    @property
    def group(self) -> str:
        """The word for a group of look-alike classes."""
        return "kind" if _data_part(self.manifest.recipe).get("kind") == "symbols" else "alphabet"

    @property
    def grouped(self) -> bool:
        """Whether there are several groups."""
        return len(self.images.group_names) > 1

    @property
    def over(self) -> str:
        """The units of the bootstrap, in words."""
        return f"{len(self.images.group_names)} {self.group}s" if self.grouped else f"{self.data.n_classes} classes"

    @cached_property
    def crossed(self) -> bool:
        """Whether every source has an image of every class, like Omniglot's drawers."""
        pairs = len(set(zip(self.images.classes, self.images.sources, strict=True)))
        return pairs == len(set(self.images.sources)) * self.data.n_classes

    @property
    def most_way(self) -> int:
        """Largest number of classes in a trial within one group."""
        return int(np.bincount(self.data.groups.numpy()).min())

    def trials(self, n_way: int, n_trials: int, seed: int, *, within: bool) -> Trials:
        """Draw one-shot trials: supports from one source and the query from another, if every source has every class.

        ``groups`` of the result are the bootstrap clusters.
        """
        if self.crossed:
            drawn = within_group_trials(self.data, n_way=n_way, n_trials=n_trials, seed=seed, within=within)
        else:
            drawn = free_trials(self.data, n_way=n_way, n_trials=n_trials, seed=seed)
        clusters = self.class_clusters[self.classes[drawn.queries]]
        return Trials(drawn.supports, drawn.queries, drawn.answers, clusters)


def open_subject(artifact: Artifact, datasets: Path, part: Part = "evaluation", threads: int | None = None) -> Subject:
    """Read the images on which to measure the artefact.

    For a recipe on Omniglot these are the evaluation alphabets, for one on symbols the exam concepts. For any other
    recipe, or with ``part`` held-out, they are the classes that the recipe held out.

    Raises:
        DatasetError: the data is not in ``datasets``, or the artefact does not record what it held out.
    """
    recipe = artifact.manifest.recipe
    if part == "held-out" and not _data_part(recipe):
        raise DatasetError(f"{artifact.manifest.model_id} has no recipe that says which classes it held out")
    if part == "evaluation" and _data_part(recipe).get("kind", "omniglot") == "omniglot":
        images, name, part = read_omniglot(datasets, "evaluation"), OMNIGLOT, "evaluation"
    else:
        adapter: TypeAdapter[DataPart] = TypeAdapter(DataPart)
        data_part = adapter.validate_python(_data_part(recipe))
        if part == "evaluation" and isinstance(data_part, SymbolsPart):
            images, name, part = data_part.exam(datasets), EXAM, "evaluation"
        else:
            division = data_part.read(datasets)
            images, name, part = division.held_out, division.source, "held-out"
    data = prepare(images, Preprocess(artifact.manifest.preprocess))
    return Subject(artifact, Embedder(artifact, "cpu", threads), images, data, name, part)


def _data_part(recipe: dict[str, JsonValue]) -> dict[str, JsonValue]:
    part = recipe.get("data")
    return part if isinstance(part, dict) else {}
