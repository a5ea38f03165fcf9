"""The recipe `folder`: from a user's folder to an artefact that the service loads and uses."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from model import DEFAULT_ARTIFACT
from model.artifact import load_artifact, read_manifest
from model.manifest import PreprocessSpec
from model.preprocess import Preprocess
from testing.factories import draw_character, encode
from testing.processes import Server, enroll
from training.data.folder import read_folder
from training.data.labelled import DatasetError, prepare
from training.data.parts import FolderPart
from training.fit import fit
from training.recipe import SamplerPart, load_recipe
from training.samplers import ClassSampler

SMALL = ("optimizer.steps=4", "validate_every=4", "validation_trials=100", "sampler.classes=6")
SCRATCH = (
    'init=""',
    "preprocess.size=24",
    "network.stem=4",
    "network.widths=[8]",
    "network.dim=16",
    "optimizer.learning_rate=0.003",
)


def draw_folder(root, n_classes=20, n_images=5, colour=False):
    """Draw symbols in several sizes and file formats; with ``colour``, each class also has its own colour."""
    for label in range(n_classes):
        (root / f"symbol {label:02d}").mkdir(parents=True)
        for number in range(n_images):
            side = 40 + 13 * number
            image = draw_character(label, size=side, jitter=0.02 * side, jitter_seed=100 * label + number)
            image = image.crop((0, 0, side, side - 5))
            if colour:
                paint = Image.new("RGB", image.size, tuple(np.random.default_rng(label).integers(0, 200, 3).tolist()))
                image = Image.composite(Image.new("RGB", image.size, "white"), paint, image)
            suffix, kind = (("png", "PNG"), ("jpg", "JPEG"), ("bmp", "BMP"))[number % 3]
            (root / f"symbol {label:02d}" / f"{number}.{suffix}").write_bytes(encode(image, kind))
    return root


@pytest.mark.timeout(300)
def test_a_trained_folder_is_served_and_classifies(tmp_path):
    """Fine-tune the shipped model for a few steps, then serve it and classify symbols that it was not trained on."""
    artifact = fit(load_recipe("folder", SMALL), draw_folder(tmp_path / "symbols"), tmp_path / "mine")
    manifest = artifact.manifest
    shipped = read_manifest(DEFAULT_ARTIFACT)
    assert manifest.network == shipped.network
    assert manifest.preprocess == shipped.preprocess
    assert manifest.weights.sha256 != shipped.weights.sha256
    assert manifest.calibration.source == "10 held-out classes of the folder symbols"
    before, after = (part.network.state_dict()["embed.weight"] for part in (load_artifact(DEFAULT_ARTIFACT), artifact))
    assert 0 < (after - before).norm() < 0.2 * before.norm(), "it did not start from the shipped weights"
    with Server(tmp_path / "home", tmp_path / "mine") as server:
        url = server.ready().url
        with httpx.Client(base_url=url, timeout=60) as client:
            for label in range(100, 105):
                assert enroll(client, f"new {label}", encode(draw_character(label))).status_code == 201
            query = encode(draw_character(103, size=90, jitter=1.5, jitter_seed=7))
            answer = client.post("/classify", files={"image": ("x.png", query)}).json()
    assert answer["candidates"][0]["label"] == "new 103"


def test_a_colour_folder_from_scratch(tmp_path):
    changes = (*SMALL, *SCRATCH, "preprocess.channels=3", 'preprocess.polarity="as-is"', 'preprocess.crop="none"')
    recipe = load_recipe("folder", (*changes, "optimizer.steps=30"))
    manifest = fit(recipe, draw_folder(tmp_path / "c", colour=True), tmp_path / "mine").manifest
    assert manifest.preprocess.channels == 3
    assert manifest.similarity.dim == 16


def test_what_is_held_out_suffices_to_calibrate(tmp_path):
    """20 classes of 5 images: ten classes give 100 pairs. With three images each, 34 classes would be needed."""
    division = FolderPart(held_out=0.1).read(draw_folder(tmp_path / "five"))
    assert (len(division.held_out.class_names), len(division.training.class_names)) == (10, 10)
    assert not set(division.held_out.class_names) & set(division.training.class_names)
    with pytest.raises(DatasetError, match=r"three has 20 classes and 60 images, too few .* enrol"):
        FolderPart().read(draw_folder(tmp_path / "three", n_images=3))


def test_single_images_are_trained_on_and_never_held_out(tmp_path):
    folder = draw_folder(tmp_path / "folder", 14)
    for number in range(1, 5):
        for file in (folder / "symbol 03").glob(f"{number}.*"):
            file.unlink()
    division = FolderPart().read(folder)
    assert "symbol 03" in division.training.class_names
    data = prepare(division.training, Preprocess(PreprocessSpec(size=16)))
    batch = ClassSampler(data, SamplerPart(classes=50, images=3, adapt=True)).draw(torch.Generator().manual_seed(0))
    assert batch.images.shape == (4, 3, 1, 16, 16)
    single = batch.images[batch.classes.tolist().index(division.training.class_names.index("symbol 03"))]
    assert torch.equal(single[0], single[2])


def test_a_class_of_one_image_each_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="a single image of each class"):
        read_folder(draw_folder(tmp_path / "singles", 3, 1))


def test_a_broken_file_is_named_before_training(tmp_path):
    folder = draw_folder(tmp_path / "folder", 3, 2)
    (folder / "symbol 01" / "torn.jpg").write_bytes((folder / "symbol 00" / "1.jpg").read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"symbol 01/torn\.jpg"):
        read_folder(folder)


def test_photographs_are_decoded_when_they_are_needed(tmp_path):
    images = read_folder(draw_folder(tmp_path / "folder", 3, 2))
    some = images.of_classes([2, 0])
    assert [image.size for image in some.images[1:3]] == [(53, 48), (40, 35)]
    (tmp_path / "folder" / "symbol 02" / "1.jpg").unlink()
    with pytest.raises(DatasetError, match=r"symbol 02/1\.jpg"):
        list(some.images)
