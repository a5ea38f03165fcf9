"""The oriented gradients against a direct computation in numpy, and mirror invariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.artifact import load_artifact, save_artifact
from model.embedder import Embedder
from model.gradients import GradientsNet, slope_kernels
from model.manifest import GradientsSpec, PreprocessSpec, SimilaritySpec, embedding_dim
from model.networks import build_network, parameter_count
from model.similarity import build_similarity
from testing.factories import make_calibration

PREPROCESS = PreprocessSpec(size=24, polarity="as-is", fit="stretch")


def spec(**changes) -> GradientsSpec:
    return GradientsSpec(**{"cell": 8, "blurs": (0.4, 1.0), "dim": 10, **changes})


def make_network(**changes) -> GradientsNet:
    torch.manual_seed(0)
    return GradientsNet(spec(**changes), PREPROCESS).eval()


def images(count: int = 3, channels: int = 1) -> torch.Tensor:
    return torch.rand(count, channels, 24, 24, generator=torch.Generator().manual_seed(1))


def direct(image: np.ndarray, blur: float, place: tuple[int, int], cell: int) -> np.ndarray:
    """One cell's responses in 8 directions, by direct sums over the image with its edge pixels repeated."""
    (row, column), reach, side = place, 3, len(image)
    pixel, steps, angles = np.pad(image, reach, mode="edge"), np.arange(-reach, reach + 1), np.arange(8) * np.pi / 4
    weights = np.exp(-(steps**2) / (2 * blur**2))
    slopes = np.zeros((side, side, 8))
    for y, x in np.ndindex(side, side):
        part = pixel[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
        lines = np.average(part, 0, weights), np.average(part, 1, weights)
        along_x, along_y = ((steps * weights * line).sum() / (steps**2 * weights).sum() for line in lines)
        slopes[y, x] = np.maximum(0, np.cos(angles) * along_x + np.sin(angles) * along_y)
    total, weight = np.zeros(8), 0.0
    for y in range((row - 1) * cell, (row + 2) * cell):
        for x in range((column - 1) * cell, (column + 2) * cell):
            away = (y - row * cell - (cell - 1) / 2) ** 2 + (x - column * cell - (cell - 1) / 2) ** 2
            share = np.exp(-away / (2 * (cell / 2) ** 2))
            total += share * slopes[min(max(y, 0), side - 1), min(max(x, 0), side - 1)]
            weight += share
    return total / weight


def test_maps_are_what_sums_over_pixels_give():
    network, image = make_network(), images(1)
    maps = network.maps(image)[0].numpy()
    assert maps.shape == (2, 8, 3, 3)
    for blur, row, column in ((0, 0, 2), (1, 1, 1)):
        cell = direct(image[0, 0].numpy(), (0.4, 1.0)[blur], (row, column), 8)
        expected = np.sqrt(cell / (np.linalg.norm(cell) + 0.05))
        assert maps[blur, :, row, column] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("angle", "expected"), [(0, [2, 0, 0, 0]), (90, [0, 2, 0, 0]), (180, [0, 0, 2, 0])])
def test_a_slope_is_found_in_its_own_direction(angle, expected):
    down, right = np.mgrid[0:9, 0:9]
    ramp = 2 * (np.cos(np.radians(angle)) * right + np.sin(np.radians(angle)) * down)
    answers = (slope_kernels((1.0,), 4)[:, 0].numpy() * ramp[1:8, 1:8]).sum((1, 2))
    assert np.maximum(answers, 0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cell", [8, 6])
def test_a_mirror_image_has_the_same_embedding_only_where_asked_for(cell):
    folded, plain = make_network(cell=cell, mirror=True), make_network(cell=cell)
    for network, same in ((folded, True), (plain, False)):
        with torch.inference_mode():
            assert torch.allclose(network(images()), network(images().flip(3)), atol=1e-5) is same
    whole = plain.maps(images())
    swapped = plain.maps(images().flip(3))
    assert torch.allclose(folded.maps(images()), ((whole + swapped) / 2)[..., : (24 // cell + 1) // 2], atol=1e-5)


def test_brightness_does_not_count_and_contrast_little():
    network, dim = make_network(), images() / 2
    maps = network.maps(dim)
    assert torch.allclose(network.maps(dim + 0.4), maps, atol=1e-5)
    assert (network.maps(2 * dim) - maps).abs().mean() < 0.15 * maps.mean()
    assert network.maps(torch.full((1, 1, 24, 24), 0.7)).max() < 1e-2, "a plain wall has no direction"


def test_only_the_embedding_is_learned():
    network = make_network(mirror=True)
    assert parameter_count(network) == (2 * 8 * 3 * 2 + 1) * 10
    assert sorted(network.state_dict()) == ["embed.bias", "embed.weight"]
    again = make_network(mirror=True)
    with torch.inference_mode():
        assert torch.equal(network(images()), again(images()))


def test_colour_of_three_equal_channels_is_grey():
    grey = make_network()
    colour = GradientsNet(spec(), PREPROCESS.model_copy(update={"channels": 3}))
    assert torch.allclose(colour.maps(images().repeat(1, 3, 1, 1)), grey.maps(images()), atol=1e-5)


def test_cells_divide_the_input():
    with pytest.raises(ValueError, match="24 pixels"):
        build_network(spec(cell=7), PREPROCESS)


def test_an_artefact_of_it_is_loaded_and_run_by_both_engines(tmp_path):
    pytest.importorskip("openvino")
    network = make_network(mirror=True)
    dim = embedding_dim(spec(mirror=True), PREPROCESS)
    made = save_artifact(
        tmp_path,
        name="gradients",
        network=network,
        network_spec=spec(mirror=True),
        preprocess=PREPROCESS,
        similarity=build_similarity(SimilaritySpec(kind="cosine", dim=dim)),
        calibration=make_calibration(),
    )
    loaded = load_artifact(tmp_path)
    assert loaded.manifest == made.manifest
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(network(images()), dim=1).numpy()
    for engine in ("torch", "openvino"):
        vectors = Embedder(loaded, "cpu", threads=1, engine=engine).embed(images().numpy())
        assert np.allclose(vectors, expected, atol=1e-5)
