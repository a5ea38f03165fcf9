"""A model on disk: a folder with ``manifest.json`` and its weights. Nothing is ever unpickled.

The weights are ``weights.safetensors``. An artefact may carry an int8 form of itself in the folder ``int8``: an
artefact too, with OpenVINO's ``graph.xml`` and ``graph.bin`` in their place. Reading that one needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError

from model.calibration import Calibration
from model.manifest import (
    FORMAT_VERSION,
    Manifest,
    Measurement,
    NetworkSpec,
    PreprocessSpec,
    QuantisedInfo,
    SimilaritySpec,
    WeightsInfo,
)

if TYPE_CHECKING:  # torch takes seconds to import, and an int8 form is served without it
    from torch import Tensor, nn

    from model.similarity import Similarity

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
GRAPH_FILE = "graph.xml"
GRAPH_WEIGHTS_FILE = "graph.bin"
INT8_FOLDER = "int8"
_MANIFEST_BYTES = 1 << 24
_PLACE = 8


class ArtifactError(Exception):
    """The folder holds no model that can be used; ``str(error)`` is one line that says why."""


@dataclass(frozen=True)
class Graph:
    """OpenVINO's form of a network with its similarity: images in, index-form vectors out."""

    xml: bytes
    weights: bytes


@dataclass(frozen=True)
class Artifact:
    """A loaded model, and what the manifest says of it.

    ``modules`` are the network and its similarity in evaluation mode; an int8 form has a ``graph`` in their place.
    """

    manifest: Manifest
    path: Path
    modules: tuple[nn.Module, Similarity] | None = None
    graph: Graph | None = None

    @property
    def network(self) -> nn.Module:
        """The network. Raises ArtifactError for an int8 form, which has none."""
        return self._modules[0]

    @property
    def similarity(self) -> Similarity:
        """What compares its embeddings. Raises ArtifactError for an int8 form."""
        return self._modules[1]

    @property
    def _modules(self) -> tuple[nn.Module, Similarity]:
        if self.modules is None:
            raise ArtifactError(f"{self.path} is an int8 form, which has no network for torch; use what it was made of")
        return self.modules


def files_of(manifest: Manifest) -> tuple[str, ...]:
    """The names of the files that make up the artefact of ``manifest``, without that of an int8 form beside it."""
    weights = (WEIGHTS_FILE,) if manifest.quantised is None else (GRAPH_FILE, GRAPH_WEIGHTS_FILE)
    return (*weights, MANIFEST_FILE)


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
    from safetensors.torch import save  # noqa: PLC0415 - torch

    from model.networks import parameter_count  # noqa: PLC0415 - torch

    data = save(_tensors(network, similarity))
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
    shutil.rmtree(path / INT8_FOLDER, ignore_errors=True)  # of other weights
    (path / WEIGHTS_FILE).write_bytes(data)
    write_manifest(path, manifest)
    return load_artifact(path)


def save_int8(source: Artifact, graph: Graph, calibration: Calibration) -> Artifact:
    """Write ``graph`` as the int8 form of ``source`` into its folder, and return it as ``load_artifact`` would."""
    path, manifest = source.path / INT8_FOLDER, source.manifest
    weights = manifest.weights.model_copy(
        update={"sha256": hashlib.sha256(graph.weights).hexdigest(), "bytes": len(graph.weights)}
    )
    quantised = QuantisedInfo(
        source=manifest.digest, graph_sha256=hashlib.sha256(graph.xml).hexdigest(), graph_bytes=len(graph.xml)
    )
    changes = {"weights": weights, "quantised": quantised, "calibration": calibration, "accuracy": ()}
    path.mkdir(exist_ok=True)
    (path / GRAPH_FILE).write_bytes(graph.xml)
    (path / GRAPH_WEIGHTS_FILE).write_bytes(graph.weights)
    write_manifest(path, manifest.model_copy(update=changes))
    return load_artifact(path)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write ``manifest`` into the artefact folder ``path``, with its checksum."""
    content = {"checksum": manifest.checksum, **manifest.model_dump(mode="json")}
    (path / MANIFEST_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_artifact(path: Path) -> Artifact:
    """Read the model in the folder ``path``; checksums are verified before a tensor is made.

    Raises:
        ArtifactError: missing, tampered with, of another format version, not what the manifest says, or of several
            views, which earlier releases made of each image.
    """
    manifest = read_manifest(path)
    if manifest.views > 1:
        raise ArtifactError(
            f"{path} embeds each image by {manifest.views} views, which this release no longer does; "
            "use the artefact that it was made from"
        )
    if manifest.quantised is not None:
        xml = _read(path / GRAPH_FILE, manifest.quantised.graph_sha256)
        return Artifact(manifest, path, graph=Graph(xml, _read(path / GRAPH_WEIGHTS_FILE, manifest.weights.sha256)))
    data = _read(path / WEIGHTS_FILE, manifest.weights.sha256)
    return Artifact(manifest, path, modules=_build(manifest, data, path))


def read_forms(path: Path) -> tuple[Path | None, Path | None]:
    """The folders of the artefact in ``path`` and of the int8 form that it carries, None where there is none.

    Raises:
        ArtifactError: there is no artefact, or the int8 form was made from another one.
    """
    manifest, int8 = read_manifest(path), path / INT8_FOLDER
    if manifest.quantised is not None:
        return None, path
    if not (int8 / MANIFEST_FILE).is_file():
        return path, None
    quantised = read_manifest(int8).quantised
    if quantised is None or quantised.source != manifest.digest:
        raise ArtifactError(f"{int8} was not made from the artefact in {path}; run 'oneshot-train quantise' anew")
    return path, int8


def check_files(path: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless the files in ``path`` are those that ``manifest`` names."""
    if manifest.quantised is not None:
        _read(path / GRAPH_FILE, manifest.quantised.graph_sha256)
    _read(path / files_of(manifest)[-2], manifest.weights.sha256)


def _content(file: Path, most: int | None = None) -> bytes:
    """What is in the file. Raises ArtifactError for what is none, whose reading may never end, and beyond `most`."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactError(f"{file} is not a file")
        if most is not None and found.st_size > most:
            raise ArtifactError(f"{file} has {found.st_size} bytes; this release reads up to {most}")
        return file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}") from error


def _read(file: Path, sha256: str) -> bytes:
    data = _content(file)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ArtifactError(f"{file} is not the file that {MANIFEST_FILE} names: its SHA-256 differs")
    return data


def _build(manifest: Manifest, data: bytes, path: Path) -> tuple[nn.Module, Similarity]:
    from safetensors.torch import load  # noqa: PLC0415 - torch

    from model.networks import build_network, embedding_dim  # noqa: PLC0415 - torch
    from model.similarity import build_similarity  # noqa: PLC0415 - torch

    try:
        network = build_network(manifest.network, manifest.preprocess)
        similarity = build_similarity(manifest.similarity)
        tensors = load(data)
        network.load_state_dict(_part(tensors, "network."))
        similarity.load_state_dict(_part(tensors, "similarity."))
    except (SafetensorError, RuntimeError, ValueError) as error:
        summary = str(error).splitlines()[0]
        raise ArtifactError(f"{path / WEIGHTS_FILE} does not fit the network in {MANIFEST_FILE}: {summary}") from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ArtifactError(f"{path / WEIGHTS_FILE} has values that are not finite")
    dim = embedding_dim(manifest.network, manifest.preprocess)
    if dim != manifest.similarity.dim:
        raise ArtifactError(f"{path / MANIFEST_FILE} compares {manifest.similarity.dim} numbers of embeddings of {dim}")
    return network.eval(), similarity.eval()


def read_manifest(path: Path) -> Manifest:
    """Read and verify ``manifest.json`` in the folder ``path``.

    Raises:
        ArtifactError: missing, edited, or of another format version.
    """
    file = path / MANIFEST_FILE
    try:
        content: Any = json.loads(_content(file, _MANIFEST_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
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
        place = ".".join(str(part) for part in first["loc"][:_PLACE])
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
