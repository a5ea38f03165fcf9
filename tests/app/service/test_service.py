"""Starting: a configuration that cannot work fails with one line, and nothing stays open."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from app.api.application import create_app
from app.errors import StartupError
from app.home.model_shelf import ModelShelf
from app.service.choose_model import choose_model
from app.service.service import Service, open_service
from app.store import STORE_FILE, open_store
from app.store.models import MODEL
from app.telemetry.metrics import Metrics
from model import PRETRAINED
from model.artifact import NETWORK_FILE, read_forms, read_manifest, write_manifest
from model.manifest import GraphInfo, Manifest, SimilarityKind
from testing.served import make_settings

ArtifactOf: TypeAlias = Callable[[SimilarityKind], Path]


def start(**settings: Any) -> Service:
    """Open and close the service, and return it."""

    async def main() -> Service:
        async with open_service(make_settings(**settings), Metrics()) as service:
            return service

    return asyncio.run(main())


def failure(**settings: Any) -> str:
    with pytest.raises(StartupError) as caught:
        start(**settings)
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_an_application_opens_nothing_before_it_starts(tmp_path: Path):
    create_app(make_settings(model=tmp_path / "nowhere", home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_stopped_service_leaves_no_thread(tmp_path: Path, artifact: Path):
    before = set(threading.enumerate())
    service = start(model=artifact, home=tmp_path)
    left = {thread.name for thread in threading.enumerate() if thread not in before}
    assert left == set()
    assert not service.batcher.ready


def test_a_missing_artefact(tmp_path: Path):
    assert failure(model=tmp_path / "nowhere", home=tmp_path).startswith("ONESHOT_MODEL: ")


def test_a_tampered_artefact(tmp_path: Path, artifact: Path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in artifact.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert failure(model=copy, home=tmp_path).startswith("ONESHOT_MODEL: ")


def test_a_model_that_was_damaged_since_is_told_and_changes_nothing(tmp_path: Path, artifact_of: ArtifactOf):
    start(model=artifact_of("cosine"), home=tmp_path)
    other = artifact_of("euclidean")
    shelf = ModelShelf(tmp_path)
    digest = next(each for each in shelf.put_forms(other) if each)
    weights = next(shelf.path(digest).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with closing(open_store(tmp_path, None)) as store:
        before = store.models.fact(MODEL)
    assert failure(model=shelf.path(digest), home=tmp_path).startswith("ONESHOT_MODEL: ")
    with closing(open_store(tmp_path, None)) as store:
        assert store.models.fact(MODEL) == before


def test_a_device_that_is_not_there(tmp_path: Path, artifact: Path):
    line = failure(model=artifact, home=tmp_path, device="cuda:99")
    assert line.startswith("ONESHOT_DEVICE, ONESHOT_ENGINE: ")
    assert "cuda:99" in line


def test_a_home_that_is_a_file(tmp_path: Path, artifact: Path):
    (tmp_path / "file").write_text("x")
    assert failure(model=artifact, home=tmp_path / "file").startswith("ONESHOT_HOME: ")


def test_a_store_that_is_no_store(tmp_path: Path, artifact: Path):
    (tmp_path / STORE_FILE).write_bytes(b"this is no database" * 100)
    assert STORE_FILE in failure(model=artifact, home=tmp_path)


def _model_of(home: Path) -> str | None:
    with closing(open_store(home, None)) as store:
        return store.models.fact(MODEL)


def test_a_missing_model_folder_is_no_reason_for_another_model(tmp_path: Path, artifact: Path):
    start(model=artifact, home=tmp_path)
    wanted = _model_of(tmp_path)
    assert wanted is not None
    shutil.move(tmp_path / "models", tmp_path / "elsewhere")
    line = failure(home=tmp_path)
    assert line.startswith(f"ONESHOT_MODEL: the store {tmp_path / STORE_FILE} has the model {wanted[:12]}, and ")
    assert str(tmp_path / "models" / wanted) in line
    assert _model_of(tmp_path) == wanted
    assert ModelShelf(tmp_path).digests() == []
    shutil.move(tmp_path / "elsewhere", tmp_path / "models")
    start(home=tmp_path)
    assert _model_of(tmp_path) == wanted


@pytest.mark.parametrize("form", [0, 1])
def test_a_missing_model_that_is_shipped_is_put_back(tmp_path: Path, form: int):
    folder = read_forms(PRETRAINED / "omniglot-accurate")[form]
    assert folder is not None
    wanted = read_manifest(folder).digest
    with closing(open_store(tmp_path, None)) as store:
        store.models.want(wanted)
        settings = make_settings(home=tmp_path)
        chosen = choose_model(settings, store, ModelShelf(tmp_path), "cpu", "auto").digest
    assert chosen == wanted
    assert len(ModelShelf(tmp_path).digests()) == 2


def _of_an_earlier_release(folder: Path) -> Manifest:
    """Remove the graph from a copied artefact."""
    manifest = read_manifest(folder).model_copy(update={"graph": None})
    write_manifest(folder, manifest)
    (folder / NETWORK_FILE).unlink()
    return manifest


def test_the_copy_of_a_shipped_model_gets_its_graph_and_keeps_its_calibration(tmp_path: Path):
    old = shutil.copytree(PRETRAINED / "omniglot", tmp_path / "old", ignore=shutil.ignore_patterns("int8"))
    own = _of_an_earlier_release(old)
    own = own.model_copy(update={"calibration": own.calibration.model_copy(update={"prior": 0.1})})
    write_manifest(old, own)
    shelf = ModelShelf(tmp_path / "home")
    shelf.put(old)
    with closing(open_store(tmp_path / "home", None)) as store:
        store.models.want(own.digest)
        chosen = choose_model(make_settings(home=tmp_path / "home"), store, shelf, "cpu", "auto")
    assert chosen == own.model_copy(update={"graph": read_manifest(PRETRAINED / "omniglot").graph})
    assert shelf.load(own.digest).manifest == chosen
    assert shelf.digests() == [own.digest]


def test_a_graph_on_the_shelf_stays(tmp_path: Path, artifact: Path):
    given = shutil.copytree(artifact, tmp_path / "given")
    whole, shelf = read_manifest(given), ModelShelf(tmp_path / "home")
    digest = shelf.put(given)
    assert whole.graph is not None
    older = _of_an_earlier_release(given)
    write_manifest(given, older.model_copy(update={"name": "renamed"}))
    shelf.put(given)
    assert shelf.load(digest).manifest == whole.model_copy(update={"name": "renamed"})
    (given / NETWORK_FILE).write_bytes(b"of another exporter")
    graph = GraphInfo(sha256=hashlib.sha256(b"of another exporter").hexdigest(), bytes=19, opset=17)
    write_manifest(given, whole.model_copy(update={"graph": graph}))
    shelf.put(given)
    assert shelf.load(digest).manifest == whole


def test_a_model_is_on_the_disk_before_the_store_names_it(
    tmp_path: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
):
    flushed: list[str] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    home = tmp_path.resolve()
    digest = ModelShelf(home).put(artifact)
    assert (home / "models" / digest).is_dir()
    assert flushed[0] == str(home)
    assert {Path(name).name for name in flushed[1:-2]} == {file.name for file in artifact.iterdir() if file.is_file()}
    assert Path(flushed[-2]).parent == home / "models", "the names in it"
    assert flushed[-1] == str(home / "models"), "its own name"
