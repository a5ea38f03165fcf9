"""Training in Ray's processes gives the same result as under torchrun."""

import json

import pytest

from testing.ray_alone import missing, run_alone
from testing.synthetic import TINY_RECIPE, write_tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why := missing()), reason=why or ""),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("omniglot"))


def test_two_processes_on_ray_train_what_two_of_torchrun_train(tree, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    fit = ["fit", "tiny.toml", "--data", str(tree), "--threads", "1", "--device", "cpu"]
    told = run_alone("training", [*fit, "--out", "ray", "--engine", "ray", "--workers", "2"], 300, tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "held-out error" in told.stdout  # progress from the remote processes
    launcher = ["--nproc-per-node", "2", "--master-port", "29600", "-m", "training", *fit, "--out", "torchrun"]
    done = run_alone("torch.distributed.run", launcher, 300, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    digests = [json.loads((tmp_path / name / "manifest.json").read_text())["weights"] for name in ("ray", "torchrun")]
    assert digests[0] == digests[1]


def test_what_a_user_can_mend_is_said_in_one_line(tree, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    fit = ["fit", "tiny.toml", "--data", "nowhere", "--device", "cpu", "--engine", "ray"]
    told = run_alone("training", fit, 300, tmp_path)
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].startswith("oneshot-train: ")
    assert "nowhere" in told.stderr.splitlines()[-1]
