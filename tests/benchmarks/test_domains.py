"""The domains benchmark: what it reads and counts, and that it queries a real service."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.domains import Figure, _nearest, closed_set, embed, read_set, strangers, table
from oneshot_client import Client
from testing.factories import draw_character, encode, make_artifact
from testing.processes import Server
from training.data.labelled import DatasetError


def write_set(folder: Path, name: str, n_classes: int, each: int, *, templates: bool) -> None:
    (folder / name).mkdir()
    with zipfile.ZipFile(folder / name / f"{name}.zip", "w") as archive:
        archive.writestr(f"{name}/LICENCE.txt", "made up")
        for number in range(n_classes):
            for copy in range(each):
                drawn = draw_character(number, size=40, jitter=0.3, jitter_seed=copy + 1)
                archive.writestr(f"{name}/class {number:02d}/{copy}.png", encode(drawn))
            if templates:
                archive.writestr(f"{name}/_templates/class {number:02d}.png", encode(draw_character(number, size=40)))
        archive.writestr(f"{name}/_templates/nobody.png", encode(draw_character(99, size=40)))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    with Server(folder / "home", make_artifact(folder / "artifact")) as server, Client(server.ready().url) as client:
        yield client


def test_templates_are_supports_and_all_photographs_are_queries(tmp_path, client):
    write_set(tmp_path, "signs", 22, 3, templates=True)
    images = read_set(tmp_path, "signs")
    assert len(images.files) == len(images.templates) == 22
    right, n = closed_set(client, images)
    assert n == 66
    assert right > 40  # even an untrained network separates these drawings
    assert embed(client, images.files["class 03"]).shape == (3, 16)


def test_without_templates_trials_are_drawn(tmp_path, client):
    write_set(tmp_path, "cards", 22, 3, templates=False)
    right, n = closed_set(client, read_set(tmp_path, "cards"))
    assert n == 2000
    assert right > 1000


def test_strangers_are_asked_of_galleries_of_thirty(tmp_path, client):
    write_set(tmp_path, "many", 34, 2, templates=False)
    named, asked = strangers(client, read_set(tmp_path, "many"))
    assert asked == 200
    assert 0 <= named <= asked
    assert len(list(client.classes(gallery="strangers-3"))) == 30


def test_a_tie_is_wrong():
    supports = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    queries = np.array([[1, 0], [0, 1]], np.float32)
    assert _nearest(queries, supports, 0).tolist() == [False, False]
    assert _nearest(queries, supports, 2).tolist() == [False, True]


def test_a_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gtsrb\.zip"):
        read_set(tmp_path, "gtsrb")


def test_models_stand_side_by_side():
    one, two = Figure("signs", 0.5, 0.4, 0.6, 100), Figure("signs", 0.75, 0.7, 0.8, 100)
    assert table({"a": [one], "b": [two]}).splitlines() == [
        "| set | n | a | b |",
        "|---|---|---|---|",
        "| signs | 100 | 50.0 % (40.0 to 60.0) | 75.0 % (70.0 to 80.0) |",
    ]
