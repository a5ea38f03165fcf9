"""A new model on a filled data folder: vectors never mix, and the old model answers until the new one is ready."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.home.model_shelf import ModelShelf
from app.pace import Pace
from app.store.models import MODEL
from model.artifact import read_manifest
from testing.served import Running, assert_problem

#: Checks for a model change at once, or never.
QUICK, IDLE = Pace(model_look=0.05), Pace(model_look=1000)


def digest_of(artifact: Path) -> str:
    return read_manifest(artifact).digest


def gallery_of(server: Running, name: str = "default") -> dict[str, Any]:
    return next(each for each in server.client.get("/galleries").json()["galleries"] if each["name"] == name)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fill(server: Running, images: list[bytes], count: int = 5) -> None:
    for number in range(count):
        assert server.enroll(f"c{number}", images[number]).status_code == 201


def best(server: Running, image: bytes) -> tuple[str, float, str]:
    """Label, distance and model name of an answer."""
    answer = server.classify(image, threshold=0).json()
    candidate = answer["candidates"][0]
    return candidate["label"], candidate["distance"], answer["model"].partition("@")[0]


def test_a_start_with_another_artefact_embeds_anew_and_switches(serve, artifact_of, images: list[bytes]):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    with serve(model=old) as server:
        fill(server, images)
    with serve(QUICK, model=new) as server:
        held = server.service.remodeller
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(new))
        assert gallery_of(server)["model_change"] is None
        for number in range(5):
            label, distance, model = best(server, images[number])
            assert (label, model) == (f"c{number}", "test-euclidean")
            assert distance == pytest.approx(0, abs=1e-4)
        assert held is server.service.remodeller
        assert server.metric("oneshot_model_change_shots") == 0
        embedded = server.client.post("/embed", files={"image": ("x", images[0])}).json()["embeddings"][0]
        assert server.service.index.vectors("default", "c0")[0].tolist() == pytest.approx(embedded, abs=1e-4)


def test_until_then_the_old_model_answers_and_what_is_enrolled_meanwhile_counts(
    serve, artifact_of, images: list[bytes]
):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    with serve(model=old) as server:
        fill(server, images)
    with serve(IDLE, model=new) as server:  # no background work
        assert best(server, images[1])[0::2] == ("c1", "test-cosine")
        assert server.enroll("late", images[6]).json()["model"].startswith("test-cosine")
        assert best(server, images[6])[0::2] == ("late", "test-cosine")
        change = gallery_of(server)["model_change"]
        assert change == {"digest": digest_of(new), "shots": 6, "done": 0, "without_image": 0, "problem": None}
        assert server.metric("oneshot_model_change_shots") == 6
        assert server.enroll("a", images[0], gallery="new").json()["model"].startswith("test-euclidean")
        same = {"image1": ("x", images[0]), "image2": ("x", images[0])}
        assert server.client.post("/verify", files=same).json()["model"].startswith("test-cosine")
    with serve(QUICK, model=new) as server:
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(new))
        assert best(server, images[6])[0::2] == ("late", "test-euclidean")


def test_work_that_was_stopped_goes_on_where_it_was(serve, artifact_of, images: list[bytes], monkeypatch):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    with serve(model=old) as server:
        fill(server, images)
    monkeypatch.setattr("app.store.models.ModelStore.switch", lambda *_: False)
    with serve(replace(QUICK, model_chunk=2), model=new) as server:
        wait_for(lambda: gallery_of(server)["model_change"]["done"] == 5)
        assert best(server, images[1])[0::2] == ("c1", "test-cosine")
    monkeypatch.undo()
    monkeypatch.setattr("app.recognition.recognizer.Recognizer.embed_stored", None)  # nothing must be embedded twice
    with serve(QUICK, model=new) as server:
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(new))


def test_switch_and_rollback_while_serving(serve, artifact_of, images: list[bytes], tmp_path):
    old, new = artifact_of("cosine"), artifact_of("weighted-l1")
    with serve(QUICK, model=old) as server:
        fill(server, images)
        missing = server.client.post("/models/switch", params={"digest": digest_of(new)})
        assert_problem(missing, 404, "model-not-found")
        assert_problem(server.client.post("/models/rollback"), 409, "conflict")
        ModelShelf(tmp_path / "home").put(new)
        assert server.client.post("/models/switch", params={"digest": digest_of(new)}).status_code == 202
        wait_for(lambda: server.client.get("/model").json()["digest"] == digest_of(new))
        assert best(server, images[2])[0::2] == ("c2", "test-weighted-l1")
        assert server.enroll("late", images[7]).json()["model"].startswith("test-weighted-l1")
        assert server.client.post("/models/rollback").status_code == 202
        wait_for(lambda: server.client.get("/model").json()["digest"] == digest_of(old))
        assert best(server, images[2])[0::2] == ("c2", "test-cosine")
        assert best(server, images[7])[0::2] == ("late", "test-cosine")
    with serve(QUICK, model=None) as server:  # without a configured model, the service uses the data folder's
        assert server.client.get("/model").json()["digest"] == digest_of(old)
        assert server.service.store.models.fact(MODEL) == digest_of(old)


def test_without_images_a_change_is_refused_with_the_reason(serve, artifact_of, images: list[bytes]):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    with serve(QUICK, model=old, keep_images=False) as server:
        fill(server, images)
        assert_problem(server.client.get("/classes/c0/image"), 404, "image-not-found")
        server.service.models.shelf.put(new)
        refused = server.client.post("/models/switch", params={"digest": digest_of(new)})
        assert "ONESHOT_KEEP_IMAGES" in assert_problem(refused, 409, "images-not-kept")["detail"]
    with serve(QUICK, model=new) as server:  # the start does not fail: the gallery keeps its model and reports why
        wait_for(lambda: gallery_of(server)["model_change"]["problem"])
        assert "ONESHOT_KEEP_IMAGES" in gallery_of(server)["model_change"]["problem"]
        assert best(server, images[3])[0::2] == ("c3", "test-cosine")
        assert gallery_of(server)["model_change"]["without_image"] == 5


def test_a_gallery_whose_model_is_gone_is_a_conflict(serve, artifact_of, images: list[bytes], tmp_path):
    with serve(IDLE) as server:
        server.enroll("a", images[0])
    shutil.rmtree(tmp_path / "home" / "models")
    with serve(IDLE, model=artifact_of("euclidean"), keep_images=False) as server:
        assert_problem(server.enroll("b", images[1]), 409, "model-mismatch")
        assert_problem(server.classify(images[0]), 409, "model-mismatch")
        assert server.client.get("/classes/a/image").content == images[0]


def test_a_calibration_comes_back_with_its_model(serve, artifact_of, images: list[bytes]):
    old, new = artifact_of("cosine"), artifact_of("euclidean")
    fitted = read_manifest(new).calibration.model_copy(update={"source": "these images"}).model_dump_json()

    def source(server: Running) -> str:
        found: str = server.client.get("/galleries/default/calibration").json()["source"]
        return found

    with serve(QUICK, model=old) as server:
        fill(server, images)
        server.service.store.set_calibration("default", digest_of(old), fitted)
        assert source(server) == "these images"
    with serve(QUICK, model=new) as server:
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(new))
        assert gallery_of(server)["calibrated"] is False
        assert source(server) != "these images"
        assert server.client.post("/models/rollback").status_code == 202
        wait_for(lambda: gallery_of(server)["digest"] == digest_of(old))
        assert gallery_of(server)["calibrated"] is True
        wait_for(lambda: source(server) == "these images")
