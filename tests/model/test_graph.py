"""The graph: standard ONNX that matches torch for every kind of network and similarity."""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import onnx
import pytest
import torch

from model import DEFAULT_ARTIFACT, PRETRAINED
from model.artifact import (
    NETWORK_FILE,
    WEIGHTS_FILE,
    ArtifactError,
    add_graph,
    load_artifact,
    read_manifest,
    save_artifact,
    write_manifest,
)
from model.embedder import DeviceError, Embedder
from model.graph import INPUT, OPSET, OUTPUT
from model.manifest import (
    ConvSpec,
    EnsembleSpec,
    FocusSpec,
    GradientsSpec,
    KochSpec,
    NetworkSpec,
    PreprocessSpec,
    ResidualSpec,
    SimilarityKind,
    SimilaritySpec,
    embedding_dim,
)
from model.networks import build_network
from model.similarity import build_similarity
from testing.factories import make_artifact, make_calibration

TOLERANCE = 1e-5
"""Largest absolute difference of a vector element between torch and the graph, as stated in docs/engines.md."""

RESIDUAL = ResidualSpec(stem=8, widths=(8, 16), dim=12)
CONV = ConvSpec(width=8, depth=2, dim=16)
CASES: dict[str, tuple[NetworkSpec, PreprocessSpec]] = {
    "koch": (KochSpec(), PreprocessSpec(size=105)),
    "residual": (RESIDUAL, PreprocessSpec(size=41)),
    "conv": (CONV, PreprocessSpec(size=28)),
    "conv without embedding": (ConvSpec(width=8, depth=3), PreprocessSpec(size=28, channels=3)),
    "gradients": (GradientsSpec(cell=8, blurs=(1.0, 2.0), dim=16), PreprocessSpec(size=32)),
    "gradients, mirror": (
        GradientsSpec(cell=8, blurs=(1.0,), directions=4, mirror=True, dim=16),
        PreprocessSpec(size=40, channels=3),
    ),
    "focus": (FocusSpec(window=32, widths=(8, 16), heads=2, dim=16), PreprocessSpec(size=48, channels=3)),
    "ensemble": (EnsembleSpec(members=(RESIDUAL, CONV)), PreprocessSpec(size=28)),
}


def save(folder, network_spec, preprocess, kind="cosine"):
    """An artefact with random weights, including batch norm statistics and the similarity's parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = build_network(network_spec, preprocess)
        similarity = build_similarity(SimilaritySpec(kind=kind, dim=embedding_dim(network_spec, preprocess)))
        for module in network.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    torch.nn.init.normal_(buffer)
                if name == "running_var":
                    torch.nn.init.uniform_(buffer, 0.5, 2.0)
        for parameter in similarity.parameters():
            torch.nn.init.normal_(parameter)
        return save_artifact(
            folder,
            name="test",
            network=network,
            network_spec=network_spec,
            preprocess=preprocess,
            similarity=similarity,
            calibration=make_calibration(),
        )


def assert_agree(artifact):
    spec = artifact.manifest.preprocess
    batch = np.random.default_rng(0).random((5, spec.channels, spec.size, spec.size), np.float32)
    by_torch, by_graph = (Embedder(artifact, "cpu", 1, engine) for engine in ("torch", "openvino"))
    for count in (5, 1):
        expected = by_torch.embed(batch[:count])
        assert np.ptp(expected) > 1e-3
        assert np.abs(by_graph.embed(batch[:count]) - expected).max() <= TOLERANCE


def test_every_kind_of_network_is_among_the_cases():
    kinds = {arm.__name__ for arm in get_args(get_args(NetworkSpec)[0])}
    assert kinds == {type(spec).__name__ for spec, _ in CASES.values()}


@pytest.mark.parametrize("case", CASES)
def test_the_graph_computes_what_torch_computes(tmp_path, case):
    assert_agree(save(tmp_path, *CASES[case]))


@pytest.mark.parametrize("kind", get_args(SimilarityKind))
def test_the_graph_holds_the_similarity(tmp_path, kind):
    assert_agree(save(tmp_path, *CASES["conv"], kind))


@pytest.mark.parametrize("folder", sorted(PRETRAINED.iterdir()), ids=lambda folder: folder.name)
def test_shipped_graphs(folder):
    artifact = load_artifact(folder)
    assert artifact.manifest.graph is not None
    assert artifact.manifest.graph.opset == OPSET
    onnx.checker.check_model(str(folder / NETWORK_FILE), full_check=True)
    assert_agree(artifact)


def test_the_graph_is_standard_and_has_no_weights_of_its_own(tmp_path):
    artifact = save(tmp_path, *CASES["residual"], "weighted-l1")
    onnx.checker.check_model(str(tmp_path / NETWORK_FILE), full_check=True)
    graph = onnx.load(tmp_path / NETWORK_FILE, load_external_data=False)
    assert [(each.domain, each.version) for each in graph.opset_import] == [("", OPSET)]
    assert [each.name for each in (*graph.graph.input, *graph.graph.output)] == [INPUT, OUTPUT]
    places = [{entry.key: entry.value for entry in each.external_data} for each in graph.graph.initializer]
    assert {place["location"] for place in places} == {WEIGHTS_FILE}
    learned = artifact.network.state_dict() | artifact.similarity.state_dict()
    assert sum(int(place["length"]) for place in places) <= 4 * sum(tensor.numel() for tensor in learned.values())
    assert (tmp_path / NETWORK_FILE).stat().st_size < 20_000


def test_a_graph_keeps_the_digest(tmp_path):
    folder = make_artifact(tmp_path)
    whole = read_manifest(folder)
    write_manifest(folder, whole.model_copy(update={"graph": None}))
    (folder / NETWORK_FILE).unlink()
    plain = load_artifact(folder)
    assert Embedder(plain, "cpu", 1).engine == "torch", "an artefact of an earlier release"
    with pytest.raises(DeviceError, match="oneshot-train graph"):
        Embedder(plain, "cpu", 1, "openvino")
    made = add_graph(plain)
    assert made.manifest == whole
    assert made.manifest.digest == plain.manifest.digest
    assert made.manifest.checksum != plain.manifest.checksum
    assert Embedder(made, "cpu", 1).engine == "openvino"


def test_an_int8_form_has_no_other_graph():
    with pytest.raises(ArtifactError, match="int8 form"):
        add_graph(load_artifact(DEFAULT_ARTIFACT / "int8"))


def test_without_onnx_an_artefact_is_saved_without_its_graph(tmp_path, monkeypatch):
    monkeypatch.setattr("model.artifact.find_spec", lambda name: None if name == "onnx" else sys.modules[name].__spec__)
    (tmp_path / NETWORK_FILE).write_bytes(b"of the weights before")
    assert read_manifest(make_artifact(tmp_path)).graph is None
    assert not (tmp_path / NETWORK_FILE).exists()
