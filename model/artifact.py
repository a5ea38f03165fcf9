"""A model on disk: a folder with ``manifest.json`` and its weights. Nothing is ever unpickled.

The weights are in ``weights.safetensors``. ``network.onnx`` holds the graph and refers to those weights. An artefact
may have an int8 form in its folder ``int8``: an artefact of its own, with OpenVINO's ``graph.xml`` and ``graph.bin``
instead. Torch is needed only to save a model, and for ``Artifact.network`` and ``Artifact.similarity``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from model.calibration import Calibration
from model.manifest import (
    FORMAT_VERSION,
    GraphInfo,
    Manifest,
    Measurement,
    NetworkSpec,
    PreprocessSpec,
    QuantisedInfo,
    SimilaritySpec,
    WeightsInfo,
    embedding_dim,
)

if TYPE_CHECKING:  # a CPU installation has no torch
    from torch import Tensor, nn

    from model.similarity import Similarity

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
NETWORK_FILE = "network.onnx"
GRAPH_FILE = "graph.xml"
GRAPH_WEIGHTS_FILE = "graph.bin"
INT8_FOLDER = "int8"
_MANIFEST_BYTES = 1 << 24
_PLACE = 8


class ArtifactError(Exception):
    """The folder holds no usable model; ``str(error)`` is one line that says why."""


@dataclass(frozen=True)
class Int8Graph:
    """OpenVINO's int8 form of a network with its similarity: images in, index-form vectors out."""

    xml: bytes
    weights: bytes


@dataclass(frozen=True)
class Artifact:
    """A model whose files match the checksums in its manifest.

    ``weights`` is the content of the safetensors file; an int8 form has ``int8`` instead.
    """

    manifest: Manifest
    path: Path
    weights: bytes = b""
    int8: Int8Graph | None = None

    @property
    def network(self) -> nn.Module:
        """The network in evaluation mode, built on first use; needs torch.

        Raises:
            ArtifactError: this is an int8 form, which has no network, or the weights do not fit the network.
        """
        return self._modules[0]

    @property
    def similarity(self) -> Similarity:
        """The similarity that compares its embeddings. Raises ArtifactError as ``network`` does."""
        return self._modules[1]

    @cached_property
    def _modules(self) -> tuple[nn.Module, Similarity]:
        if self.manifest.quantised is not None:
            raise ArtifactError(f"{self.path} is an int8 form, which has no network for torch; use what it was made of")
        return _build(self.manifest, self.weights, self.path)


def checksums(manifest: Manifest) -> dict[str, str]:
    """The SHA-256 of each file of the artefact, by name; the manifest itself is not included."""
    if manifest.quantised is not None:
        return {GRAPH_FILE: manifest.quantised.graph_sha256, GRAPH_WEIGHTS_FILE: manifest.weights.sha256}
    graph = {} if manifest.graph is None else {NETWORK_FILE: manifest.graph.sha256}
    return {WEIGHTS_FILE: manifest.weights.sha256, **graph}


def files_of(manifest: Manifest) -> tuple[str, ...]:
    """The names of the artefact's files, including the manifest but not the files of its int8 form."""
    return (*checksums(manifest), MANIFEST_FILE)


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
    """Write the model to the folder ``path``, created if needed, and return it as ``load_artifact`` would.

    The graph is written too if ``onnx`` is installed; otherwise ``add_graph`` adds it later.
    """
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
    shutil.rmtree(path / INT8_FOLDER, ignore_errors=True)  # made from the old weights, like the graph
    (path / NETWORK_FILE).unlink(missing_ok=True)
    (path / WEIGHTS_FILE).write_bytes(data)
    write_manifest(path, manifest)
    saved = load_artifact(path)
    return add_graph(saved) if find_spec("onnx") is not None else saved


def add_graph(artifact: Artifact) -> Artifact:
    """Write an artefact's graph into its folder and return it as ``load_artifact`` would. The digest does not change.

    Needs torch and onnx. Raises ArtifactError for an int8 form.
    """
    from model.graph import OPSET, export  # noqa: PLC0415 - torch

    graph = export(artifact.network, artifact.similarity, artifact.manifest.preprocess, artifact.weights, WEIGHTS_FILE)
    info = GraphInfo(sha256=hashlib.sha256(graph).hexdigest(), bytes=len(graph), opset=OPSET)
    (artifact.path / NETWORK_FILE).write_bytes(graph)
    write_manifest(artifact.path, artifact.manifest.model_copy(update={"graph": info}))
    return load_artifact(artifact.path)


def save_int8(source: Artifact, graph: Int8Graph, calibration: Calibration) -> Artifact:
    """Write ``graph`` as the int8 form of ``source`` and return that form as ``load_artifact`` would."""
    path, manifest = source.path / INT8_FOLDER, source.manifest
    weights = manifest.weights.model_copy(
        update={"sha256": hashlib.sha256(graph.weights).hexdigest(), "bytes": len(graph.weights)}
    )
    quantised = QuantisedInfo(
        source=manifest.digest, graph_sha256=hashlib.sha256(graph.xml).hexdigest(), graph_bytes=len(graph.xml)
    )
    changes = {"weights": weights, "quantised": quantised, "calibration": calibration, "accuracy": (), "graph": None}
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
    """Read the model in the folder ``path``; checksums are verified before any tensor is created.

    Raises:
        ArtifactError: missing, tampered with, of another format version, inconsistent with its manifest, of several
            views per image (earlier releases), or without a graph where torch is not installed.
    """
    manifest = read_manifest(path)
    if manifest.views > 1:
        raise ArtifactError(
            f"{path} embeds each image by {manifest.views} views, which this release no longer does; "
            "use the artefact that it was made from"
        )
    files = {name: _read(path / name, sha256) for name, sha256 in checksums(manifest).items()}
    if manifest.quantised is not None:
        return Artifact(manifest, path, int8=Int8Graph(files[GRAPH_FILE], files[GRAPH_WEIGHTS_FILE]))
    artifact = Artifact(manifest, path, files[WEIGHTS_FILE])
    _check_weights(artifact)
    if manifest.graph is None:  # only torch can run it, so check that it builds
        _ = artifact.network
    return artifact


def read_forms(path: Path) -> tuple[Path | None, Path | None]:
    """The folders of the artefact in ``path`` and of its int8 form, None for a form that is missing.

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
    for name, sha256 in checksums(manifest).items():
        _read(path / name, sha256)


def _content(file: Path, most: int | None = None) -> bytes:
    """The file's bytes. Raises ArtifactError if it is not a regular file (a pipe may never end) or exceeds `most`."""
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


def _check_weights(artifact: Artifact) -> None:
    manifest, path = artifact.manifest, artifact.path
    try:
        arrays = load_arrays(artifact.weights)
    except (SafetensorError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path / WEIGHTS_FILE} holds no tensors: {_first_line(error)}") from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ArtifactError(f"{path / WEIGHTS_FILE} has values that are not finite")
    dim = embedding_dim(manifest.network, manifest.preprocess)
    if dim != manifest.similarity.dim:
        raise ArtifactError(f"{path / MANIFEST_FILE} compares {manifest.similarity.dim} numbers of embeddings of {dim}")


def _build(manifest: Manifest, data: bytes, path: Path) -> tuple[nn.Module, Similarity]:
    if find_spec("torch") is None:
        raise ArtifactError(
            f"{path} has no {NETWORK_FILE}, and PyTorch, which can do without, is not installed: "
            f"'oneshot-train graph {path}' writes one where it is"
        )
    from safetensors.torch import load  # noqa: PLC0415 - torch

    from model.networks import build_network  # noqa: PLC0415 - torch
    from model.similarity import build_similarity  # noqa: PLC0415 - torch

    try:
        network = build_network(manifest.network, manifest.preprocess)
        similarity = build_similarity(manifest.similarity)
        tensors = load(data)
        network.load_state_dict(_part(tensors, "network."))
        similarity.load_state_dict(_part(tensors, "similarity."))
    except (SafetensorError, RuntimeError, ValueError) as error:
        place = path / WEIGHTS_FILE
        raise ArtifactError(f"{place} does not fit the network in {MANIFEST_FILE}: {_first_line(error)}") from error
    return network.eval(), similarity.eval()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


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
