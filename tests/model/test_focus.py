"""The network with a learned window on the symbol."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.artifact import save_artifact
from model.embedder import Embedder
from model.focus import FocusNet, Window
from model.manifest import FocusSpec, PreprocessSpec, SimilaritySpec
from model.similarity import build_similarity
from testing.factories import make_calibration

PREPROCESS = PreprocessSpec(size=48, channels=3, polarity="as-is")


def spec(**changes) -> FocusSpec:
    return FocusSpec(**{"window": 32, "widths": (8, 16), "heads": 2, "dim": 10, **changes})


def make_network(**changes) -> FocusNet:
    torch.manual_seed(1)
    return FocusNet(spec(**changes), PREPROCESS).eval()


def test_light_and_contrast_do_not_count():
    images = torch.zeros(1, 3, 48, 48)
    images[:, :, 10:30, 12:20] = 1
    with torch.inference_mode():
        network = make_network()
        here, relit, negative = (network(pictures) for pictures in (images, 0.4 * images + 0.3, 1 - images))
    assert (here - relit).norm() < 0.2 * (here - negative).norm()


def test_a_blank_picture_has_an_embedding():
    with torch.inference_mode():
        assert make_network()(torch.ones(1, 3, 48, 48)).isfinite().all()


def placed(window: Window, share: float, across: float, down: float) -> Window:
    with torch.no_grad():
        raw = (share - 0.3) / 0.7
        window.place.bias.copy_(
            torch.tensor([np.log(raw / (1 - raw)), *np.arctanh([across / (1 - share), down / (1 - share)])])
        )
    return window


def test_the_window_shows_what_lies_under_it():
    images = torch.zeros(1, 3, 48, 48)
    images[:, :, 0:24, 24:48] = 1  # the upper right quarter
    window = placed(Window(3, 48, 32), share=0.5, across=0.4999, down=-0.4999)
    with torch.inference_mode():
        assert window(images).mean() > 0.98
        assert placed(window, share=0.5, across=-0.4999, down=-0.4999)(images).mean() < 0.02


def test_shrinking_does_not_alias():
    stripes = (torch.arange(48) % 2).float().expand(1, 3, 48, 48)
    with torch.inference_mode():
        shown = placed(Window(3, 48, 16), share=0.99, across=0, down=0)(stripes)
    assert shown[..., 2:-2].std() < 0.05


def test_it_learns_where_to_look():
    network = make_network().train()
    network(torch.rand(4, 3, 48, 48)).square().sum().backward()
    assert network.window.place.bias.grad is not None
    assert (network.window.place.bias.grad != 0).all()


@pytest.mark.parametrize(
    ("changes", "size", "why"),
    [({}, 50, "multiple of 24"), ({"window": 34}, 48, "multiple of 4"), ({"window": 64}, 48, "at most")],
)
def test_sides_that_do_not_fit_are_refused(changes, size, why):
    with pytest.raises(ValueError, match=why):
        FocusNet(spec(**changes), PreprocessSpec(size=size, channels=3))


def test_openvino_computes_the_same(tmp_path):
    pytest.importorskip("openvino")
    network, similarity = make_network(), build_similarity(SimilaritySpec(kind="cosine", dim=10))
    artifact = save_artifact(
        tmp_path,
        name="focus",
        network=network,
        network_spec=spec(),
        preprocess=PREPROCESS,
        similarity=similarity,
        calibration=make_calibration(),
    )
    images = np.random.default_rng(1).random((5, 3, 48, 48), np.float32)
    found = [Embedder(artifact, "cpu", 1, engine).embed(images) for engine in ("torch", "openvino")]
    assert np.abs(found[0] - found[1]).max() < 1e-4
