"""A model on disk: a folder with ``manifest.json`` and ``weights.safetensors``. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from model.calibration import Calibration
from model.manifest import (
    FORMAT_VERSION,
    Manifest,
    Measurement,
    NetworkSpec,
    PreprocessSpec,
    SimilaritySpec,
    WeightsInfo,
)
from model.networks import build_network, parameter_count
from model.similarity import Similarity, build_similarity

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"


class ArtifactError(Exception):
    """The folder holds no model that can be used; ``str(error)`` is one line that says why."""


@dataclass(frozen=True)
class Artifact:
    """A loaded model: the network and its similarity in evaluation mode, and what the manifest says of them."""

    manifest: Manifest
    network: nn.Module
    similarity: Similarity
    path: Path


def save_artifact(
    path: Path,
    *,
    name: str,
    network: nn.Module,
    network_spec: NetworkSpec,
    preprocess: PreprocessSpec,
    similarity: Similarity,
    calibration: Calibration,
    recipe: dict[str, JsonValue] | None = None,
    accuracy: tuple[Measurement, ...] = (),
    created: datetime | None = None,
) -> Artifact:
    """Write the model to the folder ``path``, made if needed, and return it as ``load_artifact`` would."""
    tensors = _tensors(network, similarity)
    data = save(tensors)
    manifest = Manifest(
        name=name,
        created=created or datetime.now(UTC).replace(microsecond=0),
        network=network_spec,
        preprocess=preprocess,
        similarity=SimilaritySpec(kind=similarity.kind, dim=similarity.dim),
        calibration=calibration,
        weights=WeightsInfo(
            sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), parameters=parameter_count(network, similarity)
        ),
        recipe=recipe or {},
        accuracy=accuracy,
    )
    path.mkdir(parents=True, exist_ok=True)
    (path / WEIGHTS_FILE).write_bytes(data)
    write_manifest(path, manifest)
    return load_artifact(path)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write ``manifest`` into the artefact folder ``path``, with its checksum."""
    content = {"checksum": manifest.checksum, **manifest.model_dump(mode="json")}
    (path / MANIFEST_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_artifact(path: Path) -> Artifact:
    """Read the model in the folder ``path``; checksums are verified before a tensor is made.

    Raises:
        ArtifactError: missing, tampered with, of another format version, or not what the manifest says.
    """
    manifest = read_manifest(path)
    try:
        data = (path / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path / WEIGHTS_FILE} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != manifest.weights.sha256:
        raise ArtifactError(f"{path / WEIGHTS_FILE} is not the file that {MANIFEST_FILE} names: its SHA-256 differs")
    try:
        network = build_network(manifest.network, manifest.preprocess)
        similarity = build_similarity(manifest.similarity)
        tensors = load(data)
        network.load_state_dict(_part(tensors, "network."))
        similarity.load_state_dict(_part(tensors, "similarity."))
    except (SafetensorError, RuntimeError, ValueError) as error:
        summary = str(error).splitlines()[0]
        raise ArtifactError(f"{path / WEIGHTS_FILE} does not fit the network in {MANIFEST_FILE}: {summary}") from error
    return Artifact(manifest, network.eval(), similarity.eval(), path)


def read_manifest(path: Path) -> Manifest:
    """Read and verify ``manifest.json`` in the folder ``path``.

    Raises:
        ArtifactError: missing, edited, or of another format version.
    """
    file = path / MANIFEST_FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{file} is not a JSON object")
    if content.get("format_version") != FORMAT_VERSION:
        found = content.get("format_version")
        raise ArtifactError(f"{file} has format version {found!r}; this release reads {FORMAT_VERSION}")
    checksum = content.pop("checksum", None)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{file} is not valid: {place}: {first['msg']}") from error
    if checksum != manifest.checksum:
        raise ArtifactError(f"{file} was changed after it was written: its checksum does not match")
    return manifest


def _tensors(network: nn.Module, similarity: Similarity) -> dict[str, Tensor]:
    parts: tuple[tuple[str, nn.Module], ...] = (("network.", network), ("similarity.", similarity))
    return {
        prefix + name: tensor.detach().cpu().contiguous()
        for prefix, module in parts
        for name, tensor in module.state_dict().items()
    }


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
