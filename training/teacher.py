"""A trained model, the teacher, for distillation."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual alias

from model.artifact import load_artifact
from model.manifest import PreprocessSpec


class Teacher:
    """The artefact in the folder ``path``, as the teacher of a student whose preprocessing is ``preprocess``.

    Raises:
        ArtifactError: the folder holds no model.
        ValueError: the teacher's preprocessing differs in more than the size.
    """

    def __init__(self, path: Path, preprocess: PreprocessSpec, device: torch.device) -> None:
        artifact = load_artifact(path)
        spec = artifact.manifest.preprocess
        if spec.model_copy(update={"size": preprocess.size}) != preprocess:
            raise ValueError(f"the teacher {path} prepares images otherwise: {spec}; only preprocess.size may differ")
        self.size = spec.size
        self.similarity = artifact.similarity.to(device)
        self._network = artifact.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Return the teacher's index-form vectors (n, dim) of the student's images (n, channels, size, size)."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        vectors: Tensor = self.similarity.index_form(self._network(images))
        return vectors
