"""Serving on a CPU needs no torch: it works without torch, and never imports it if it is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model import DEFAULT_ARTIFACT
from model.artifact import NETWORK_FILE, load_artifact, read_manifest, write_manifest
from model.embedder import Embedder
from testing.factories import make_artifact

FORBIDDEN = """
import importlib.abc, sys

class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "nncf"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbid())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ("torch", "onnx") else find_spec(name, package)
"""
"""Simulates a machine without torch."""


def run(script: str, *arguments: str | Path, forbid: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", (FORBIDDEN if forbid else "") + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


EMBED = """
import json, sys, numpy as np
from pathlib import Path
from model.artifact import load_artifact
from model.embedder import Embedder
embedder = Embedder(load_artifact(Path(sys.argv[1])), sys.argv[2], 1)
spec = embedder.manifest.preprocess
batch = np.random.default_rng(0).random((3, spec.channels, spec.size, spec.size), np.float32)
print(json.dumps([embedder.engine, embedder.device, embedder.embed(batch).tolist()]))
"""


@pytest.mark.parametrize(("form", "engine"), [(".", "openvino"), ("int8", "openvino-int8")])
def test_the_shipped_model_embeds_where_torch_is_not_installed(form, engine):
    done = run(EMBED, DEFAULT_ARTIFACT / form, "auto")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found[:2] == [engine, "cpu"]
    embedder = Embedder(load_artifact(DEFAULT_ARTIFACT / form), "cpu", 1, "torch" if form == "." else "auto")
    spec = embedder.manifest.preprocess
    batch = np.random.default_rng(0).random((3, spec.channels, spec.size, spec.size), np.float32)
    assert np.allclose(found[2], embedder.embed(batch), atol=1e-5)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_that_is_asked_for_needs_torch(device):
    done = run(EMBED, DEFAULT_ARTIFACT, device)
    assert done.returncode == 1
    assert f"DeviceError: the device {device!r} needs PyTorch, which is not installed" in done.stderr


def test_an_artefact_of_an_earlier_release_says_what_it_needs(tmp_path):
    folder = make_artifact(tmp_path)
    write_manifest(folder, read_manifest(folder).model_copy(update={"graph": None}))
    (folder / NETWORK_FILE).unlink()
    done = run(EMBED, folder, "cpu")
    assert done.returncode == 1
    assert f"ArtifactError: {folder} has no network.onnx, and PyTorch" in done.stderr
    assert "oneshot-train graph" in done.stderr.splitlines()[-1]


SERVE = """
import asyncio, io, json, sys
from pathlib import Path
from types import SimpleNamespace
import httpx
from PIL import Image, ImageDraw
from app.api.application import create_app
from app.settings import Settings

def drawn(*points):
    image = Image.new("L", (64, 64), 255)
    ImageDraw.Draw(image).line(points, fill=0, width=5)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

async def main():
    app = create_app(Settings(_env_file=None, home=Path(sys.argv[1]), engine=sys.argv[2]))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            for label, points in (("slash", (8, 56, 56, 8)), ("bar", (32, 8, 32, 56))):
                answer = await client.post("/enroll", data={"label": label}, files={"image": drawn(*points)})
                assert answer.status_code == 201, answer.text
            answer = await client.post("/classify", files={"image": drawn(10, 56, 57, 9)})
            model = await client.get("/model")
            print(json.dumps([answer.json()["candidates"][0]["label"], model.json()["engine"], model.json()["device"]]))

asyncio.run(main())
import model.calibrating
heavy = [name for name in ("torch", "onnx", "nncf", "safetensors.torch") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
@pytest.mark.parametrize("forbid", [False, True])
def test_the_service_runs_without_torch(tmp_path, engine, forbid):
    done = run(SERVE, tmp_path, engine, forbid=forbid)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["slash", engine, "cpu"]
