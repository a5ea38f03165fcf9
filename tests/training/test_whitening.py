"""Whitening changes the last layer so that the embeddings have the intended covariance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.manifest import ConvSpec, PreprocessSpec
from model.networks import build_network
from training.data.labelled import PreparedImages
from training.recipe import WhiteningPart
from training.whitening import whiten

N_CLASSES, N_IMAGES = 10, 40


def make_data() -> PreparedImages:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(N_CLASSES, 1, 1, 16, 16, generator=generator)
    noise = torch.rand(N_CLASSES, N_IMAGES, 1, 16, 16, generator=generator)
    pixels = (120 * centres + 120 * noise).byte().flatten(0, 1)
    classes = torch.arange(N_CLASSES).repeat_interleave(N_IMAGES)
    return PreparedImages(pixels, classes, torch.arange(len(classes)), torch.zeros(N_CLASSES, dtype=torch.long))


def make_network(dim: int | None = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(ConvSpec(width=8, depth=2, dim=dim), PreprocessSpec(size=16)).eval()


@torch.no_grad()
def embed(network, data: PreparedImages) -> Tensor:
    embeddings: Tensor = network(data.pixels.float() / 255)
    return embeddings


def covariance(deviations: Tensor) -> Tensor:
    return deviations.T @ deviations / len(deviations)


def test_total_whitening_leaves_a_sphere_around_the_origin():
    network, data = make_network(), make_data()
    assert not torch.allclose(covariance(embed(network, data)), torch.eye(4), atol=0.1)
    whiten(network, data, WhiteningPart(shrinkage=0))
    embeddings = embed(network, data)
    assert torch.allclose(embeddings.mean(0), torch.zeros(4), atol=0.02)
    assert torch.allclose(covariance(embeddings), torch.eye(4), atol=0.05)


def test_within_whitening_makes_each_class_a_sphere():
    network, data = make_network(), make_data()
    whiten(network, data, WhiteningPart(kind="within", shrinkage=0))
    embeddings = embed(network, data).view(N_CLASSES, N_IMAGES, 4)
    deviations = (embeddings - embeddings.mean(1, keepdim=True)).flatten(0, 1)
    assert torch.allclose(covariance(deviations), torch.eye(4), atol=0.05)


def test_within_whitening_with_a_share_of_the_total():
    """A share of 0 is plain within whitening, 1 is total whitening, and 0.5 whitens the mean of both covariances."""
    data = make_data()
    found = {}
    for total in (0.0, 0.5, 1.0):
        network = make_network()
        whiten(network, data, WhiteningPart(kind="within", shrinkage=0, total=total))
        embeddings = embed(network, data).view(N_CLASSES, N_IMAGES, 4)
        within = covariance((embeddings - embeddings.mean(1, keepdim=True)).flatten(0, 1))
        found[total] = within, covariance(embeddings.flatten(0, 1))
    ratio = [float(total.trace() / within.trace()) for within, total in found.values()]
    assert torch.allclose(found[0.0][0], torch.eye(4), atol=0.05)
    sphere = found[1.0][1]
    assert torch.allclose(sphere, sphere[0, 0] * torch.eye(4), atol=0.05 * float(sphere[0, 0]))
    assert ratio[0] > ratio[1] > ratio[2], "the more of the total, the less is made of what differs between classes"


def test_full_shrinkage_only_centres_and_scales():
    network, data = make_network(), make_data()
    before = embed(network, data)
    whiten(network, data, WhiteningPart(shrinkage=1))
    after = embed(network, data)
    ratio = after / (before - before.mean(0))
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=0.01)


def test_a_network_without_a_linear_end_is_refused():
    with pytest.raises(ValueError, match=r"network\.dim"):
        whiten(make_network(dim=None), make_data(), WhiteningPart())
