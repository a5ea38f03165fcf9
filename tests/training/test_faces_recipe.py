"""The recipe `faces-gradients`: no training steps, only whitening, to an artefact that the service loads."""

from __future__ import annotations

import shutil

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from model.artifact import load_artifact
from model.embedder import Embedder
from model.manifest import EnsembleSpec
from model.preprocess import Preprocess
from testing.factories import encode
from testing.processes import Server, enroll
from tests.training.test_faces import write_faces
from training.data.faces import read_faces, split_people
from training.data.labelled import prepare
from training.fit import fit
from training.history import read_history
from training.loop import train
from training.people import evaluate_people, joined, trained
from training.recipe import load_recipe

pytestmark = pytest.mark.timeout(300)

PEOPLE = 36


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces") / "att_faces", PEOPLE).parent


@pytest.fixture(scope="module")
def artifact(faces, tmp_path_factory):
    return fit(load_recipe("faces-gradients"), faces, tmp_path_factory.mktemp("artefact"))


def weights(faces, folder, *changes):
    """Train without calibrating; return the weights."""
    recipe = load_recipe("faces-gradients", changes)
    division, preprocess = recipe.data.read(faces), Preprocess(recipe.preprocess)
    training, held_out = prepare(division.training, preprocess), prepare(division.held_out, preprocess)
    return train(recipe, training, held_out, folder, n_way=division.n_way).network.state_dict()["embed.weight"]


def test_it_is_whitened_without_a_step_of_training(artifact, faces, tmp_path):
    assert read_history(artifact.path) == ()
    kept = artifact.network.embed.weight
    assert torch.equal(weights(faces, tmp_path / "again"), kept)
    assert not torch.allclose(weights(faces, tmp_path / "plain", "whitening.shrinkage=1"), kept)
    assert not torch.allclose(weights(faces, tmp_path / "trained", "optimizer.steps=2"), kept)


def test_the_service_loads_it_and_does_not_mind_a_mirror(artifact, faces, tmp_path):
    images = read_faces(faces)
    _, strangers = split_people(PEOPLE, 10, split=0)
    with Server(tmp_path / "home", artifact.path) as server, httpx.Client(base_url=server.ready().url) as client:
        for person in strangers[:3]:
            photograph = images.images[10 * person]
            assert enroll(client, images.class_names[person], encode(photograph)).status_code == 201
        mirrored = images.images[10 * strangers[1]].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        answer = client.post("/classify", files={"image": ("x.png", encode(mirrored))}).json()
    best = answer["candidates"][0]
    assert best["label"] == images.class_names[strangers[1]]
    assert best["distance"] == pytest.approx(0, abs=1e-3)


def test_two_recipes_are_joined_split_by_split(artifact, faces, tmp_path):
    images = read_faces(faces)
    small = load_recipe("faces-contrastive-small", ("similarity=cosine", "optimizer.steps=2", "validation_trials=100"))
    error, _, _ = evaluate_people(images, trained(small, faces, tmp_path / small.name), n_splits=1)
    assert 0 <= error.mean <= 50
    shutil.copytree(artifact.path, tmp_path / "faces-gradients" / "split-0")
    members = [tmp_path / "faces-gradients", tmp_path / "faces-contrastive-small"]
    error, _, right = evaluate_people(images, joined(members, faces, tmp_path / "both"), n_splits=1)
    assert 0 <= error.mean < 50
    assert right.mean > 10
    made = load_artifact(tmp_path / "both" / "split-0")
    assert isinstance(made.manifest.network, EnsembleSpec)
    assert [member.kind for member in made.manifest.network.members] == ["gradients", "conv"]
    vectors = Embedder(made, "cpu").embed(np.zeros((1, 1, 48, 48), np.float32))
    assert vectors.shape == (1, 288 + 64)
