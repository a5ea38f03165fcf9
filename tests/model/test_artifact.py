"""A saved artefact loads unchanged, and a tampered one is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load, save

from model.artifact import (
    MANIFEST_FILE,
    NETWORK_FILE,
    WEIGHTS_FILE,
    ArtifactError,
    check_files,
    load_artifact,
    read_manifest,
    write_manifest,
)
from model.embedder import DeviceError, Embedder
from model.manifest import SimilaritySpec
from testing.factories import make_artifact, make_calibration


@pytest.fixture
def folder(tmp_path):
    return make_artifact(tmp_path / "artefact", "weighted-l1")


def edit(folder, change):
    content = json.loads((folder / MANIFEST_FILE).read_text())
    change(content)
    (folder / MANIFEST_FILE).write_text(json.dumps(content))


def test_round_trip(folder):
    first, second = load_artifact(folder), load_artifact(folder)
    images = torch.rand(2, 1, 28, 28)
    with torch.inference_mode():
        assert torch.equal(first.network(images), second.network(images))
        assert torch.equal(
            first.similarity.index_form(torch.ones(1, 16)), second.similarity.index_form(torch.ones(1, 16))
        )
    assert not first.network.training
    assert first.manifest.model_id == f"test-weighted-l1@{first.manifest.digest[:12]}"
    assert first.manifest.weights.bytes == (folder / WEIGHTS_FILE).stat().st_size


def test_the_digest_names_the_embedding_not_the_calibration(folder, tmp_path):
    manifest = load_artifact(folder).manifest
    write_manifest(
        folder, manifest.model_copy(update={"calibration": make_calibration().model_copy(update={"prior": 0.1})})
    )
    assert load_artifact(folder).manifest.digest == manifest.digest
    assert load_artifact(folder).manifest.checksum != manifest.checksum
    assert load_artifact(make_artifact(tmp_path / "other", "weighted-l1", seed=1)).manifest.digest != manifest.digest


def test_several_views_of_an_image_are_of_earlier_releases(folder):
    several = read_manifest(folder).model_copy(update={"views": 5})
    write_manifest(folder, several)
    assert read_manifest(folder).digest == several.digest
    with pytest.raises(ArtifactError, match="by 5 views, which this release no longer does"):
        load_artifact(folder)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, NETWORK_FILE])
def test_a_changed_file(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        check_files(folder, read_manifest(folder))
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        load_artifact(folder)


def test_a_pickle_in_its_place(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (folder / WEIGHTS_FILE).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ArtifactError):
        load_artifact(folder)
    assert not (tmp_path / "owned").exists()


def test_a_changed_manifest(folder):
    edit(folder, lambda content: content["calibration"].update(prior=0.9))
    with pytest.raises(ArtifactError, match="changed after it was written"):
        load_artifact(folder)


def test_weights_that_do_not_fit(folder):
    other = load_artifact(make_artifact(folder.parent / "other", size=60)).manifest
    manifest = load_artifact(folder).manifest
    write_manifest(folder, manifest.model_copy(update={"preprocess": other.preprocess}))
    with pytest.raises(ArtifactError, match="does not fit") as caught:
        _ = load_artifact(folder).network
    assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match=r"it maps shapes .*28,28.* says \[-1, 1, 60, 60\]"):
        Embedder(load_artifact(folder), "cpu", 1)
    write_manifest(folder, manifest.model_copy(update={"preprocess": other.preprocess, "graph": None}))
    with pytest.raises(ArtifactError, match="does not fit"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format_version=2), "format version 2"),
        (lambda content: content.update(surprise=1), "surprise"),
        (lambda content: content.pop("network"), "network"),
    ],
)
def test_manifests_that_are_not_valid(folder, change, message):
    edit(folder, change)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(folder)


def test_missing_and_unreadable(tmp_path, folder):
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_artifact(tmp_path / "nowhere")
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_artifact(folder)
    (folder / MANIFEST_FILE).write_text("[1")
    with pytest.raises(ArtifactError, match="not JSON"):
        load_artifact(folder)
    (folder / MANIFEST_FILE).write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="not JSON"):
        load_artifact(folder)
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ArtifactError, match="1073741824 bytes"):
        load_artifact(folder)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [MANIFEST_FILE, WEIGHTS_FILE, NETWORK_FILE])
def test_what_is_no_file_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ArtifactError, match="is not a file"):
        load_artifact(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="is not a file"):
        load_artifact(folder)


def test_weights_that_are_not_finite(folder):
    tensors = load((folder / WEIGHTS_FILE).read_bytes())
    data = save({name: tensor * float("nan") for name, tensor in tensors.items()})
    (folder / WEIGHTS_FILE).write_bytes(data)
    manifest = read_manifest(folder)
    weights = manifest.weights.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    write_manifest(folder, manifest.model_copy(update={"weights": weights}))
    with pytest.raises(ArtifactError, match="not finite"):
        load_artifact(folder)


def test_a_similarity_of_other_embeddings(tmp_path):
    folder = make_artifact(tmp_path / "cosine", "cosine")
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"similarity": SimilaritySpec(kind="cosine", dim=7)}))
    with pytest.raises(ArtifactError, match="7 numbers of embeddings of 16"):
        load_artifact(folder)
