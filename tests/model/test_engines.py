"""Engines: OpenVINO matches torch, and an int8 form is a separate model that is refused if incomplete."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

import model.embedder
from model import DEFAULT_ARTIFACT
from model.artifact import (
    GRAPH_FILE,
    GRAPH_WEIGHTS_FILE,
    INT8_FOLDER,
    ArtifactError,
    load_artifact,
    read_forms,
    read_manifest,
    write_manifest,
)
from model.embedder import DeviceError, Embedder, choose_form
from model.manifest import SimilarityKind
from model.torch_engine import GRAPH_SIZES, TorchEngine, padded_size, parts_of
from testing.factories import draw_character, make_artifact

SHIPPED_INT8 = DEFAULT_ARTIFACT / INT8_FOLDER


def prepared(embedder: Embedder, count: int) -> np.ndarray:
    return np.stack([embedder.prepare(draw_character(seed, jitter=1.0, jitter_seed=seed)) for seed in range(count)])


@pytest.mark.parametrize("kind", get_args(SimilarityKind))
def test_openvino_computes_what_torch_computes(tmp_path, kind):
    artifact = load_artifact(make_artifact(tmp_path / "artefact", kind))
    reference, engine = (Embedder(artifact, "cpu", 1, name) for name in ("torch", "openvino"))
    assert (reference.engine, engine.engine, engine.device) == ("torch", "openvino", "cpu")
    batch = prepared(reference, 7)
    assert np.allclose(engine.embed(batch), reference.embed(batch), atol=1e-5, rtol=1e-5)
    assert reference.manifest.digest == engine.manifest.digest


def test_openvino_computes_what_torch_computes_with_the_shipped_model():
    artifact = load_artifact(DEFAULT_ARTIFACT)
    reference, engine = (Embedder(artifact, "cpu", 1, name) for name in ("torch", "openvino"))
    batch = prepared(reference, 9)
    assert np.allclose(engine.embed(batch), reference.embed(batch), atol=2e-6)


@pytest.mark.parametrize("folder", [DEFAULT_ARTIFACT, SHIPPED_INT8])
def test_a_vector_does_not_depend_on_its_batch(folder):
    embedder = Embedder(load_artifact(folder), "cpu", 1)
    batch = prepared(embedder, 64)
    together = embedder.embed(batch)
    for size in (1, 3, 8, 17):
        assert np.allclose(embedder.embed(batch[:size]), together[:size], atol=1e-6), size


def test_a_result_outlives_the_next_pass():
    embedder = Embedder(load_artifact(SHIPPED_INT8), "cpu", 1)
    batch = prepared(embedder, 2)
    first = embedder.embed(batch[:1])
    kept = first.copy()
    embedder.embed(batch[1:])
    assert np.array_equal(first, kept)


def test_int8_is_near_f32_and_another_model():
    f32, int8 = (Embedder(load_artifact(folder), "cpu", 1) for folder in (DEFAULT_ARTIFACT, SHIPPED_INT8))
    batch = prepared(f32, 16)
    cosines = (f32.embed(batch) * int8.embed(batch)).sum(axis=1)
    assert cosines.min() > 0.97
    assert np.linalg.norm(int8.embed(batch), axis=1) == pytest.approx(1, abs=1e-5)
    assert int8.engine == "openvino-int8"
    assert int8.manifest.digest != f32.manifest.digest
    assert int8.manifest.quantised is not None
    assert int8.manifest.quantised.source == f32.manifest.digest
    assert int8.manifest.calibration != f32.manifest.calibration


def test_an_int8_form_is_served_without_torch_and_tells_nobody():
    script = (
        "import sys, app.api.application, app.service.service; from model import DEFAULT_ARTIFACT; "
        "from model.artifact import load_artifact; "
        "from model.embedder import Embedder; Embedder(load_artifact(DEFAULT_ARTIFACT / 'int8'), 'auto').warm_up(); "
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules, 'heavy'; "
        "assert sys.modules.get('openvino_telemetry') is None"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def carrier(tmp_path):
    """A copy of the shipped artefact with its int8 form."""
    return shutil.copytree(DEFAULT_ARTIFACT, tmp_path / "artefact")


@pytest.mark.parametrize("name", [GRAPH_FILE, GRAPH_WEIGHTS_FILE])
def test_a_tampered_int8_form_is_refused(carrier, name):
    file = carrier / INT8_FOLDER / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        load_artifact(carrier / INT8_FOLDER)


@pytest.mark.parametrize("content", [b"<net", b"no graph at all"])
def test_a_graph_that_cannot_be_run_is_told_in_one_line(carrier, content):
    folder = carrier / INT8_FOLDER
    (folder / GRAPH_FILE).write_bytes(content)
    manifest = read_manifest(folder)
    sums = {"graph_sha256": hashlib.sha256(content).hexdigest(), "graph_bytes": len(content)}
    assert manifest.quantised is not None
    write_manifest(folder, manifest.model_copy(update={"quantised": manifest.quantised.model_copy(update=sums)}))
    with pytest.raises(DeviceError, match="OpenVINO can't run the model") as caught:
        Embedder(load_artifact(folder), "cpu", 1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_forms_of_a_folder(carrier, tmp_path):
    assert read_forms(carrier) == (carrier, carrier / INT8_FOLDER)
    assert read_forms(carrier / INT8_FOLDER) == (None, carrier / INT8_FOLDER)
    other = make_artifact(tmp_path / "other")
    assert read_forms(other) == (other, None)
    shutil.move(carrier / INT8_FOLDER, other / INT8_FOLDER)
    with pytest.raises(ArtifactError, match="was not made from"):
        read_forms(other)
    assert read_manifest(make_artifact(other)).quantised is None
    assert read_forms(other) == (other, None), "other weights: the old form is gone"


@pytest.mark.parametrize(
    ("forms", "engine", "present", "openvino", "chosen"),
    [
        (("b", "i"), "auto", None, True, "i"),
        (("b", "i"), "auto", None, False, "b"),
        (("b", None), "auto", None, True, "b"),
        (("b", "i"), "auto", "b", True, "b"),
        (("b", "i"), "auto", "i", True, "i"),
        (("b", "i"), "auto", "i", False, "b"),
        (("b", "i"), "auto", "b", False, "b"),
        (("b", "i"), "torch", "i", True, "b"),
        (("b", "i"), "openvino", "i", True, "b"),
        (("b", "i"), "openvino-int8", "b", True, "i"),
        ((None, "i"), "auto", None, True, "i"),
    ],
)
def test_which_form_is_run(monkeypatch, forms, engine, present, openvino, chosen):  # noqa: PLR0917
    monkeypatch.setattr(model.embedder, "has_openvino", lambda: openvino)
    assert choose_form(*forms, device="cpu", engine=engine, present=present) == chosen


@pytest.mark.parametrize(
    ("base", "int8", "engine", "openvino"),
    [("b", None, "openvino-int8", True), ("b", "i", "openvino-int8", False), (None, "i", "torch", True)],
)
def test_forms_that_cannot_be_run(monkeypatch, base, int8, engine, openvino):
    monkeypatch.setattr(model.embedder, "has_openvino", lambda: openvino)
    with pytest.raises(DeviceError, match="int8"):
        choose_form(base, int8, device="cpu", engine=engine)


@pytest.mark.parametrize(
    ("folder", "engine", "message"),
    [
        (SHIPPED_INT8, "torch", "by OpenVINO on a CPU only"),
        (DEFAULT_ARTIFACT, "openvino-int8", "no int8 form"),
        (DEFAULT_ARTIFACT, "torch-half", "for GPUs"),
    ],
)
def test_engines_that_cannot_run_a_form(folder, engine, message):
    with pytest.raises(DeviceError, match=message):
        Embedder(load_artifact(folder), "cpu", 1, engine)


def test_without_openvino(monkeypatch):
    monkeypatch.setattr(model.embedder, "has_openvino", lambda: False)
    assert Embedder(load_artifact(DEFAULT_ARTIFACT), "cpu", 1).engine == "torch"
    with pytest.raises(DeviceError, match="not installed"):
        Embedder(load_artifact(DEFAULT_ARTIFACT), "cpu", 1, "openvino")


def test_half_precision_is_near():
    artifact = load_artifact(DEFAULT_ARTIFACT)
    batch = prepared(Embedder(artifact, "cpu", 1), 4)
    half, full = (TorchEngine(artifact, torch.device("cpu"), 1, half=half).embed(batch) for half in (True, False))
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    assert np.allclose(half, full, atol=5e-3)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (64, 64), (65, 64)])
def test_batches_are_filled_up_to_captured_sizes(count, size):
    assert padded_size(count) == size


def test_parts_cover_a_large_batch():
    batch = np.arange(2 * GRAPH_SIZES[-1] + 1, dtype=np.float32).reshape(-1, 1, 1, 1)
    parts = parts_of(batch)
    assert [len(part) for part in parts] == [64, 64, 1]
    assert np.array_equal(np.concatenate(parts), batch)
