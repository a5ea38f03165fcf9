"""Embeddings do not depend on the batch, and an unavailable device is an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.artifact import load_artifact
from model.embedder import DeviceError, Embedder, pick_device
from testing.factories import draw_character, make_artifact


@pytest.fixture(scope="module", params=["cosine", "euclidean", "weighted-l1"])
def embedder(request, tmp_path_factory):
    return Embedder(load_artifact(make_artifact(tmp_path_factory.mktemp("artefact"), request.param)), "cpu")


def test_a_batch_gives_what_single_images_give(embedder):
    images = [embedder.prepare(draw_character(seed)) for seed in range(5)]
    together = embedder.embed(np.stack(images))
    alone = np.concatenate([embedder.embed(image[None]) for image in images])
    assert together.shape == (5, embedder.dim)
    assert together.dtype == np.float32
    assert together.flags.c_contiguous
    assert np.allclose(together, alone, atol=1e-5)


def test_different_images_differ(embedder):
    first, second = (embedder.embed(embedder.prepare(draw_character(seed))[None]) for seed in (1, 2))
    assert not np.allclose(first, second)


def test_cosine_vectors_are_of_length_one(embedder):
    vector = embedder.embed(embedder.prepare(draw_character(1))[None])
    if embedder.metric == "cosine":
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_the_device_really_used_is_reported(embedder):
    embedder.warm_up((1, 2))
    assert embedder.device == "cpu"


def test_auto_is_never_an_error():
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_missing_gpu_is_an_error(name):
    with pytest.raises(DeviceError, match="0 CUDA devices"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "meta"])
def test_devices_that_are_none(name):
    with pytest.raises(DeviceError, match="auto, cpu, cuda"):
        pick_device(name)
