"""The GPU benchmark runs without a GPU and without the service; its page says what was and was not measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_forward import Form, copies, forms, forward, seconds_of_call
from benchmarks.gpu_page import page
from testing.factories import make_artifact
from testing.synthetic import write_tree
from training.checkpoint import CHECKPOINT_FILE, read_checkpoint
from training.fit import fit
from training.recipe import load_recipe

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

#: Blocks the import of packages that a training machine may lack.
BARE = """
import sys
sys.modules.update(dict.fromkeys(["openvino", "faiss", "fastapi", "starlette", "structlog", "opentelemetry",
    "prometheus_client", "sqlalchemy", "sklearn", "scipy", "typer", "matplotlib", "resvg_py", "fontTools"]))
from benchmarks.gpu import main
main(sys.argv[1:])
"""


RECIPE = """
name = "tiny"
similarity = "cosine"
validate_every = 50
validation_trials = 100
[data]
kind = "omniglot"
held_out = ["Gamma"]
[preprocess]
size = 20
[network]
kind = "conv"
width = 4
depth = 2
[sampler]
classes = 6
[[objective]]
kind = "matching"
[optimizer]
steps = 1
learning_rate = 0.001
ema = 0.9
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifact"), size=16)


@pytest.mark.parametrize("queued", [False, True])
def test_a_call_is_timed(queued: bool):
    found = seconds_of_call(lambda: time.sleep(0.01), CPU, 0.1, queued=queued)
    assert 0.01 <= found < 0.1


def test_copies_have_a_rate_in_both_directions():
    rows = list(copies(CPU, [1000, 50_000], 0.1))
    assert [(row["bytes"], row["way"]) for row in rows] == [
        (size, way) for size in (1000, 50_000) for way in ("to the device", "from the device")
    ]
    for row in rows:
        assert row["memory"] == "pageable"
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["us"] / 1000)


def test_every_form_gives_the_vectors_of_the_embedder(artifact):
    rows = list(forward(artifact, CPU, [1, 3], 0.5))
    assert {(row["way"], row["form"]) for row in rows} == {
        ("bare", "float32"),
        ("bare", "float32, channels-last"),
        ("Embedder", "torch"),
        ("batcher", "torch"),
    }
    for row in rows:
        assert row["differs"] < 1e-5
        assert row["images_per_s"] == pytest.approx(1000 * row["batch"] / row["ms"])


def test_what_a_gpu_runs_has_a_name_of_its_own():
    names = [form.name for form in forms(torch.device("cuda"))]
    assert len(set(names)) == len(names)
    assert "half weights, channels-last, graph, tuned" in names
    assert [form.name for form in forms(CPU)] == [Form().name, "float32, channels-last"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_runs_every_form(artifact):
    rows = list(forward(artifact, torch.device("cuda:0"), [1, 3], 5))
    assert [row["error"] for row in rows if "error" in row] == []
    assert max(row["differs"] for row in rows) < 0.05


def test_it_needs_neither_the_service_nor_its_packages(artifact, tmp_path):
    options = ["--copies", "--forward", "--seconds", "1", "--batches", "1", "2", "--large", "4096", "--device", "cpu"]
    command = [sys.executable, "-c", BARE, *options, "--model", str(artifact), "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    record = json.loads((tmp_path / gpu.RECORD).read_text("utf-8"))
    assert [row["bytes"] for row in record["copies"]["rows"]][::2] == [16 * 16 * 4, 2 * 16 * 16 * 4, 4096]
    failed = {row["way"] for row in record["forward"]["rows"] if "error" in row}
    assert failed == {"batcher"}
    said = (tmp_path / gpu.PAGE).read_text("utf-8")
    assert "- batcher, torch: ModuleNotFoundError: No module named" in said


def test_a_part_that_is_not_asked_for_keeps_its_figures(artifact, tmp_path):
    common = ["--seconds", "0.2", "--batches", "1", "--large", "512", "--device", "cpu", "--out", str(tmp_path)]
    gpu.main(["--copies", "--model", str(artifact), *common])
    before = gpu.read(tmp_path)
    gpu.main(["--forward", "--model", str(artifact), *common])
    after = gpu.read(tmp_path)
    assert after["copies"] == before["copies"]
    assert after["forward"]["model"].startswith("test-cosine@")
    written = (tmp_path / gpu.PAGE).read_text("utf-8")
    (tmp_path / gpu.PAGE).unlink()
    gpu.main(["--device", "cpu", "--out", str(tmp_path)])
    assert (tmp_path / gpu.PAGE).read_text("utf-8") == written


def test_a_training_fills_its_time_and_is_made_an_artefact_elsewhere(tmp_path):
    data, out, file = write_tree(tmp_path / "data"), tmp_path / "out", tmp_path / "tiny.toml"
    file.write_text(RECIPE)
    options = ["--steps", str(file), "--train", str(file), "--set", "sampler.classes=8", "--seconds", "6"]
    options += ["--data", str(data), "--device", "cpu", "--precision", "float32", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", BARE, *options], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = gpu.read(out)
    [step], [training] = record["steps"]["rows"], record["training"]["rows"]
    assert step["images"] == 12
    assert 0 < step["data_ms"] < step["ms"]
    steps = int(training["settings"][-1].removeprefix("optimizer.steps="))
    assert training["images"] == 16 * steps
    assert training["looks"][-1]["step"] == steps > 1
    written = (out / gpu.PAGE).read_text("utf-8")
    assert f"| tiny | `sampler.classes=8` `optimizer.steps={steps}` |" in written

    kept, _ = read_checkpoint(out / "tiny" / CHECKPOINT_FILE)
    assert not any(name.startswith(("optimizer/", "averaged/")) for name in kept)
    recipe = load_recipe(str(file), tuple(training["settings"]))
    made = fit(recipe, data, out / "tiny")
    for name, value in made.network.state_dict().items():
        assert torch.equal(value, kept[f"network/{name}"]), name
    assert f"--set optimizer.steps={steps} --precision float32 --out {out / 'tiny'}" in done.stdout


def test_rows_survive_one_that_breaks(tmp_path):
    def rows() -> Any:
        yield {"bytes": 1, "memory": "pageable", "way": "to the device", "us": 1.0, "gb_per_s": 0.001}
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError):
        gpu.record_rows(tmp_path, "copies", {"run": gpu.origin(CPU)}, rows())
    assert len(gpu.read(tmp_path)["copies"]["rows"]) == 1
    assert "| 1 | pageable | 1.0 µs | 0.00 GB/s | - | - |" in (tmp_path / gpu.PAGE).read_text("utf-8")


def test_the_page_shows_rates_and_the_worst_difference():
    run = gpu.origin(CPU)
    rows = [
        {"way": "bare", "form": "half", "batch": 1, "ms": 0.5, "images_per_s": 2000.0, "differs": 1e-3},
        {"way": "bare", "form": "half", "batch": 8, "ms": 1.0, "images_per_s": 8000.0, "differs": 2e-3},
    ]
    said = page({"forward": {"run": run, "model": "m@1", "rows": rows}})
    assert "| bare | half | 2,000 | 8,000 | 2.0e-03 |" in said
    assert "Not measured" not in said
