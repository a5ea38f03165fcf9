"""Several processes share a batch: together they compute what a single one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.manifest import PreprocessSpec
from model.preprocess import Preprocess
from testing.synthetic import TINY_RECIPE, write_tree
from training.augment import Augment
from training.batches import DistortedBatches
from training.data.labelled import prepare
from training.data.omniglot import read_omniglot
from training.loop import train_step
from training.machine import Machine
from training.recipe import load_recipe
from training.run import start_run
from training.samplers import ClassSampler

ROOT = Path(__file__).parents[2]

WORKER = """
import sys
from pathlib import Path
import torch
from tests.training.test_machine import gradients
from training.machine import processes

with processes(torch.device("cpu"), "float32") as machine:
    gradients(Path(sys.argv[1]), sys.argv[2], machine)
"""


def start(folder: Path, recipe: str, machine: Machine):
    torch.set_num_threads(1)
    images = read_omniglot(folder, "background").without_groups(["Gamma"])
    data = prepare(images, Preprocess(PreprocessSpec(size=20)))
    loaded = load_recipe(recipe)
    sampler = ClassSampler(data, loaded.sampler, rotations=True)
    return start_run(loaded, sampler.n_classes, machine), DistortedBatches(sampler, Augment(loaded.augment))


def gradients(folder: Path, recipe: str, machine: Machine) -> None:
    """Take one step; each process writes its gradients and the batch norm statistics."""
    run, batches = start(folder, recipe, machine)
    train_step(run, batches)
    found = {name: tensor for name, tensor in run.network.state_dict().items() if "running" in name}
    for module in (run.network, run.loss):
        found |= {
            f"gradient of {name}": value.grad for name, value in module.named_parameters() if value.grad is not None
        }
    contiguous = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}
    save_file(contiguous, folder / f"found-{machine.world}-{machine.rank}.safetensors")


def torchrun(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("omniglot"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("similarity", "objectives"),
    [
        ("cosine", ["softmax", "matching", "triplet"]),
        ("weighted-l1", ["pair-bce", "contrastive"]),
    ],
)
def test_two_processes_have_the_gradient_of_one(tree, tmp_path, similarity, objectives):
    """In-batch losses and batch norm include all images, across processes.

    Gradients are compared, not weights: Adam turns a gradient that is zero up to rounding into a full step, for example
    that of a bias that does not affect distances.
    """
    text = TINY_RECIPE.format(similarity=similarity, objective=objectives[0])
    text += "".join(f'\n[[objective]]\nkind = "{kind}"\n' for kind in objectives[1:])
    (tmp_path / "tiny.toml").write_text(text)
    (tmp_path / "worker.py").write_text(WORKER)
    torchrun(tmp_path, "worker.py", str(tree), str(tmp_path / "tiny.toml"))
    gradients(tree, str(tmp_path / "tiny.toml"), Machine())
    alone = load_file(tree / "found-1-0.safetensors")
    assert sum(name.startswith("gradient") for name in alone) > 8
    assert max(tensor.abs().max() for name, tensor in alone.items() if name.startswith("gradient")) > 0.001
    for rank in range(2):
        shared = load_file(tree / f"found-2-{rank}.safetensors")
        assert shared.keys() == alone.keys()
        for name, tensor in alone.items():
            assert torch.allclose(shared[name], tensor, atol=1e-5, rtol=1e-3), name


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_torchrun_trains_an_artefact(tree, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    torchrun(tmp_path, "-m", "training", "fit", "tiny.toml", "--data", str(tree), "--out", "out", "--threads", "1")
    assert (tmp_path / "out" / "manifest.json").exists()


def test_classes_are_divided_evenly():
    shares = [Machine(rank=rank, world=3).share(12) for rank in range(3)]
    assert [list(range(12))[share] for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    with pytest.raises(ValueError, match=r"sampler\.classes"):
        Machine(world=3).share(10)


def test_one_process_agrees_with_itself():
    assert Machine().agree(0.25) == 0.25
    values = torch.rand(3)
    assert Machine().gather(values) is values


def test_bfloat16_computes_the_network_in_it_and_the_loss_not(tree, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    outputs: list[torch.dtype] = []
    losses = {}
    for precision in ("float32", "bfloat16"):
        run, batches = start(tree, str(tmp_path / "tiny.toml"), Machine(precision=precision))
        run.network.register_forward_hook(lambda _, __, output: outputs.append(output.dtype))
        images, classes = batches.draw(run.generator, run.step, run.machine)
        loss = run.learner(images, classes, None)
        losses[precision] = loss.item()
        assert loss.dtype == torch.float32
    assert outputs == [torch.float32, torch.bfloat16]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]
