"""Output shapes and parameter counts of the networks."""

from __future__ import annotations

import pytest
import torch

from model.manifest import ConvSpec, FocusSpec, KochSpec, PreprocessSpec, ResidualSpec, embedding_dim
from model.networks import KochNet, build_network, parameter_count
from model.similarity import WeightedL1


def test_koch_has_the_papers_parameters():
    assert parameter_count(KochNet(), WeightedL1(4096)) == 38_951_745


def test_koch_initial_values():
    torch.manual_seed(0)
    layer = KochNet().embed
    assert layer.weight.std().item() == pytest.approx(0.2, rel=0.01)
    assert layer.bias.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("spec", "size", "channels"),
    [
        (KochSpec(), 105, 1),
        (ResidualSpec(stem=4, widths=(8, 8), dim=5), 20, 1),
        (ResidualSpec(stem=4, widths=(8, 8, 8), dim=5), 37, 3),
        (FocusSpec(window=24, widths=(8, 8, 8), heads=3, dim=5), 48, 3),
        (ConvSpec(width=4, depth=2), 21, 3),
        (ConvSpec(width=4, depth=4, dim=7), 32, 1),
    ],
)
def test_output_has_the_announced_dimension(spec, size, channels):
    preprocess = PreprocessSpec(size=size, channels=channels)
    network = build_network(spec, preprocess).eval()
    with torch.inference_mode():
        embeddings = network(torch.rand(2, channels, size, size))
    assert embeddings.shape == (2, embedding_dim(spec, preprocess))


def test_koch_takes_only_its_own_input():
    with pytest.raises(ValueError, match="105 x 105"):
        build_network(KochSpec(), PreprocessSpec(size=28))


def test_too_many_halvings():
    with pytest.raises(ValueError, match="at least 16 pixels"):
        build_network(ConvSpec(depth=4), PreprocessSpec(size=15))
