"""Schedules, and the settings of each layer."""

from __future__ import annotations

import pytest
import torch

from model.manifest import KochSpec, PreprocessSpec, SimilaritySpec
from model.networks import build_network, parameter_count
from model.similarity import build_similarity
from training.optimizers import AdamWPart, LayerPart, SgdPart, build_optimizer, one_cycle, schedule
from training.recipe import load_recipe

SGD = SgdPart(
    steps=1000,
    learning_rate=0.1,
    epoch=10,
    momentum=0.9,
    momentum_epochs=4,
    l2=0.01,
    layers={"net.0": LayerPart(learning_rate=0.5, momentum=0.7), "net.2": LayerPart(l2=0)},
)


def make_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def test_one_cycle_rises_to_the_peak_and_falls_to_zero():
    part = AdamWPart(steps=100, learning_rate=0.5, warmup=0.2)
    rates = [one_cycle(part, step) for step in range(100)]
    assert max(rates) == rates[19] == rates[20] == 0.5
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.001


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.5), (9, 0.5), (10, 0.55), (20, 0.6), (40, 0.7), (400, 0.7)])
def test_momentum_rises_and_rates_shrink_by_epochs(step, momentum):
    optimizer = build_optimizer(SGD, {"net": make_net()})
    schedule(optimizer, SGD, step)
    first, third = optimizer.param_groups[0], optimizer.param_groups[2]
    assert first["momentum"] == pytest.approx(momentum)
    assert first["lr"] == pytest.approx(0.5 * 0.99 ** (step // 10))
    assert third["lr"] == pytest.approx(0.1 * 0.99 ** (step // 10))


def test_a_step_descends_the_loss_with_its_penalty():
    """One step by hand: w - rate * (gradient of the loss + gradient of l2 * |w|^2), biases without penalty."""
    part = SGD.model_copy(update={"layers": {}})
    net = make_net()
    optimizer = build_optimizer(part, {"net": net})
    inputs = torch.ones(1, 3)
    before = [parameter.detach().clone().requires_grad_() for parameter in net.parameters()]
    names = [name for name, _ in net.named_parameters()]
    output = torch.func.functional_call(net, dict(zip(names, before, strict=True)), (inputs,))
    (output.sum() + 0.01 * (before[0].square().sum() + before[2].square().sum())).backward()
    schedule(optimizer, part, 0)
    net(inputs).sum().backward()
    optimizer.step()
    for old, new in zip(before, net.parameters(), strict=True):
        assert old.grad is not None
        assert torch.allclose(new, old - 0.1 * old.grad, atol=1e-6)


def test_a_layer_that_is_not_there():
    part = SGD.model_copy(update={"layers": {"net.9": LayerPart()}})
    with pytest.raises(ValueError, match=r"layers\.net\.9"):
        build_optimizer(part, {"net": make_net()})


def test_shared_parameters_count_once():
    net = make_net()
    optimizer = build_optimizer(AdamWPart(steps=1, learning_rate=1), {"net": net, "again": net})
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_the_koch_recipe_is_the_papers():
    recipe = load_recipe("omniglot-koch")
    network = build_network(KochSpec(), PreprocessSpec(size=105))
    similarity = build_similarity(SimilaritySpec(kind="weighted-l1", dim=4096))
    assert parameter_count(network, similarity) == 38_951_745
    assert isinstance(recipe.optimizer, SgdPart)
    optimizer = build_optimizer(recipe.optimizer, {"network": network, "similarity": similarity})
    penalties = {group["weight_decay"] for group in optimizer.param_groups}
    assert len(penalties) > 2  # one per layer, none for biases
    assert recipe.sampler.classes * recipe.sampler.images == 128
    assert (recipe.validation_trials, recipe.patience) == (320, 20)
    changed = load_recipe("omniglot-koch", ("sampler.batches=1172", "augment.probability=1"))
    assert (changed.sampler.batches or 0) * 128 == pytest.approx(150_000, rel=0.001)
