"""The verbs of `oneshot` as a user runs them: against a running service, and on a data folder without one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.image_folders import find_images
from oneshot_client import Client, UnauthorizedError
from testing.factories import draw_character, png_bytes
from testing.served import Running

ONESHOT = Path(sys.executable).with_name("oneshot")

Run = Callable[..., Result]


@pytest.fixture
def run(served: Running) -> Run:
    """Runs a verb against the service, in this process, and checks its exit code."""

    def invoke(*words: object, code: int = 0, **options: Any) -> Result:
        environment = {"ONESHOT_URL": served.url, "COLUMNS": "120", "ONESHOT_API_KEY": None}
        done = CliRunner().invoke(cli, [str(word) for word in words], env=environment, **options)
        assert done.exit_code == code, done.output
        return done

    return invoke


def objects(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes: two sub-folders (`alpha` with three images) and a file; also files that are not images."""
    root = tmp_path_factory.mktemp("images")
    for name, seed in {"alpha/1": 0, "alpha/2": 0, "alpha/3": 0, "beta/1": 1, "gamma": 2, ".hidden/x": 3}.items():
        file = root / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        jitter = int(name[-1]) - 1 if name[-1].isdigit() else 0
        file.write_bytes(png_bytes(draw_character(seed, jitter=jitter)))
    (root / "notes.txt").write_text("no image")
    return root


def test_a_folder_is_enrolled_and_classified(run: Run, folder: Path, gallery: str):
    done = run("enroll", folder, "-g", gallery)
    passed_over = f"passed over, as not named like images: 2 files ({folder}/.hidden/x.png, {folder}/notes.txt)\n"
    assert done.stdout == f"5 images of 3 classes (3 new) enrolled in gallery {gallery}\n{passed_over}"
    listed = objects(run("classes", "list", "-g", gallery, "--json"))
    assert [(item["label"], item["shots"]) for item in listed] == [("alpha", 3), ("beta", 1), ("gamma", 1)]
    found = objects(run("classify", folder / "alpha", folder / "gamma.png", "-g", gallery, "--threshold", 0, "--json"))
    assert [item["label"] for item in found] == ["alpha", "alpha", "alpha", "gamma"]
    assert found[-1]["file"] == str(folder / "gamma.png")
    text = run("classify", folder, "-g", gallery, "--threshold", 0).stdout
    assert len([line for line in text.splitlines() if line.rstrip().endswith(("known", "ambiguous"))]) == 5


def test_enrolling_again_replaces_adds_or_fails(run: Run, folder: Path, gallery: str):
    for rule, shots in (("replace", 3), ("replace", 3), ("add", 6)):
        run("enroll", folder / "alpha", "--label", "a", "-g", gallery, "--on-conflict", rule)
        assert objects(run("classes", "show", "a", "-g", gallery, "--json"))[0]["shots"] == shots
    done = run("enroll", folder, "-l", "a", "-g", gallery, "--on-conflict", "fail", "--json", code=2)
    told = [item.get("problem", "passed over") for item in objects(done)]
    assert told == ["class-exists"] * 5 + ["passed over"] * 2
    assert objects(run("classes", "show", "a", "-g", gallery, "--json"))[0]["shots"] == 6


def test_a_bad_file_does_not_stop_the_others(run: Run, folder: Path, gallery: str, tmp_path: Path):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    done = run("enroll", bad, folder / "gamma.png", "-g", gallery, code=2)
    enrolled = f"1 image of 1 class (1 new) enrolled in gallery {gallery}"
    assert done.stdout == f"{enrolled}; 1 image could not be enrolled\n"
    assert "bad.png: the bytes are no image" in done.stderr
    done = run("classify", bad, folder / "gamma.png", "-g", gallery, "--json", code=2)
    assert [item.get("problem") for item in objects(done)] == ["unsupported-image", None]


def test_a_folder_takes_few_requests_and_splits_what_is_too_large(
    serve: Callable[..., Any], run: Run, tmp_path: Path, images: list[bytes]
):
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(130):
        (folder / f"{index:03}.png").write_bytes(images[index % len(images)])
    with serve(max_enroll_images=40) as server:
        done = run("enroll", folder, "--url", server.url, "--json")
        assert [item["status"] for item in objects(done)] == [201] * 130
        assert [item["label"] for item in objects(done)] == [f"{index:03}" for index in range(130)]
        assert len(objects(run("classes", "list", "--url", server.url, "--json"))) == 130
        requests = 'oneshot_requests_total{method="POST",route="/enroll/batch",status="200"}'
        assert server.metric(requests) == 5  # 100 in four parts of 25, and 30


def test_exit_codes_tell_known_and_unknown(run: Run, folder: Path, gallery: str):
    run("classify", folder / "gamma.png", code=1)  # nothing is enrolled in the default gallery
    run("enroll", folder / "gamma.png", "-g", gallery)
    known = run("classify", folder / "gamma.png", "-g", gallery, "--threshold", 0.5, "--explain").stdout
    assert known.startswith("gamma\n")
    assert "pairs of different classes" in known
    unknown = run("classify", folder / "beta", "-g", gallery, "--threshold", 1, code=1).stdout
    assert unknown.startswith("unknown\n")
    assert run("verify", folder / "gamma.png", "-l", "gamma", "-g", gallery).stdout.startswith("same: similarity 0.")
    two = (folder / "gamma.png", folder / "beta/1.png")
    assert run("verify", *two, "--threshold", 1, code=1).stdout.startswith("different: ")
    assert objects(run("verify", *two, "--threshold", 0, "--json"))[0]["verified"] is True


def test_wrong_calls_end_with_2(run: Run, folder: Path, gallery: str, tmp_path: Path):
    image = folder / "gamma.png"
    assert "either a second image or --label" in run("verify", image, code=2).output
    assert "only with --local" in run("classes", "list", "--home", tmp_path, code=2).output
    assert "no such file" in run("enroll", tmp_path / "nowhere", code=2).stderr
    assert "no image in" in run("enroll", tmp_path, code=2).stderr
    assert (
        "threshold: Input should be less than or equal to 1" in run("classify", image, "--threshold", 2, code=2).stderr
    )
    assert "There is no gallery 'nobody'" in run("classes", "list", "-g", "nobody", code=2).stderr
    assert "not both" in run("classify", image, "--threshold", 0.5, "--fpir", 0.1, code=2).stderr
    done = run("galleries", "list", "--url", "http://127.0.0.1:9", code=2)
    assert "no answer from http://127.0.0.1:9" in done.stderr
    assert "oneshot serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_classes_are_shown_saved_and_deleted(run: Run, folder: Path, gallery: str, tmp_path: Path):
    assert run("classes", "list").stdout == "gallery default has no class\n"
    run("enroll", folder, "-g", gallery)
    assert "gamma" in run("classes", "list", "-g", gallery).stdout
    saved = tmp_path / "saved.png"
    assert "alpha" in run("classes", "show", "alpha", "-g", gallery, "--save", saved, "--shot", 0).stdout
    assert saved.read_bytes() == (folder / "alpha/1.png").read_bytes()
    run("classes", "rename", "alpha", "a/1", "-g", gallery)
    assert "enrolled: 'beta'" in run("classes", "rename", "a/1", "beta", "-g", gallery, code=2).stderr
    run("classes", "rename", "a/1", "alpha", "-g", gallery)
    assert "give --yes" in run("classes", "delete", "alpha", "-g", gallery, code=2).stderr
    run("classes", "delete", "alpha", "beta", "-g", gallery, "--yes")
    assert [item["label"] for item in objects(run("classes", "list", "-g", gallery, "--json"))] == ["gamma"]
    assert "no class 'alpha'" in run("classes", "show", "alpha", "-g", gallery, code=2).stderr


def test_a_search_tells_whether_it_found_anything(run: Run, folder: Path, gallery: str):
    run("enroll", folder, "-g", gallery)
    assert [item["label"] for item in objects(run("classes", "search", "A", "-g", gallery, "--json"))] == [
        "alpha",
        "beta",
        "gamma",
    ]
    assert "gamma" in run("classes", "search", "mm", "-g", gallery).stdout
    assert (
        run("classes", "search", "%", "-g", gallery, code=1).stdout == f"no class of gallery {gallery} contains that\n"
    )
    assert run("classes", "search", "%", "-g", gallery, "--json", code=1).stdout == ""
    assert len(run("classes", "search", "x" * 257, "-g", gallery, code=2).stderr.splitlines()) == 1


def test_a_key_is_sent_and_its_rate_is_kept(serve: Callable[..., Any], run: Run, folder: Path, tmp_path: Path):
    with serve(api_keys="on") as server:
        where = ("--url", server.url)
        assert "key" in run("enroll", folder, *where, code=2).stderr.lower()
        options = ("--scope", "admin", "--rate", "5/second", "--home", tmp_path / "home")
        key = run("keys", "create", "me", *options).stdout.strip()
        run("enroll", folder, *where, "--api-key", key)
        with pytest.raises(UnauthorizedError) as caught, Client(server.url) as client:
            client.galleries()
        assert caught.value.status == 401
        with Client(server.url, api_key=key) as client:  # more than five a second: the client gets 429 and waits
            found = [outcome.get() for outcome in client.classify_many([folder / "gamma.png"] * 12)]
        assert len(found) == 12
        time.sleep(1.1)  # until the key's second has passed
        counts = server.client.get("/metrics", headers={"X-API-Key": key}).text
        assert 'status="429"' in counts


def test_a_label_is_never_markup(run: Run, folder: Path, gallery: str):
    run("enroll", folder / "gamma.png", "-l", "[red]a[/red]", "-g", gallery)
    assert "[red]a[/red]" in run("classes", "list", "-g", gallery).stdout


def test_galleries_are_listed_calibrated_and_deleted(run: Run, folder: Path, gallery: str):
    run("enroll", folder, "-g", gallery)
    assert gallery in {item["name"] for item in objects(run("galleries", "list", "--json"))}
    assert gallery in run("galleries", "list").stdout
    assert "classes" in run("galleries", "calibrate", gallery, code=2).stderr
    assert "smallest fpir" in run("galleries", "calibration", gallery).stdout
    assert objects(run("galleries", "calibrate", gallery, "--forget", "--json"))[0]["source"] == "made up for tests"
    run("galleries", "delete", gallery, "-y")
    assert gallery not in {item["name"] for item in objects(run("galleries", "list", "--json"))}


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("app").setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_logging_as_it_was")
def test_locally_the_same_answers_come_without_a_service(
    run: Run, folder: Path, artifact: Path, tmp_path: Path, gallery: str
):
    def local(*words: object, code: int) -> Result:
        where = ("--local", "--home", tmp_path / "home", "--json")
        environment = {"ONESHOT_MODEL": str(artifact), "ONESHOT_DEVICE": "cpu", "ONESHOT_THREADS": "1"}
        done = CliRunner().invoke(cli, list(map(str, (*words, *where))), env=environment)
        assert (done.exit_code, done.stderr) == (code, ""), done.output
        return done

    assert [item.get("status") for item in objects(local("enroll", folder, "-g", gallery, code=0))][:5] == [
        201,
        200,
        200,
        201,
        201,
    ]
    run("enroll", folder, "-g", gallery)
    [here] = objects(local("classify", folder / "beta", "-g", gallery, "--threshold", 1, code=1))
    [there] = objects(run("classify", folder / "beta", "-g", gallery, "--threshold", 1, "--json", code=1))
    for item in (*here["candidates"], *there["candidates"]):
        assert set(item) == {"label", "similarity", "distance", "llr"}
    assert [item["label"] for item in here.pop("candidates")] == [item["label"] for item in there.pop("candidates")]
    assert here.pop("margin") == pytest.approx(there.pop("margin"), abs=1e-4)
    assert here == there


@pytest.mark.usefixtures("_logging_as_it_was")
def test_a_problem_of_the_local_folder_is_one_line(folder: Path, tmp_path: Path):
    done = CliRunner().invoke(cli, ["galleries", "list", "--local"], env={"ONESHOT_MODEL": str(tmp_path / "no")})
    assert done.exit_code == 2
    assert done.stderr.startswith("oneshot: ONESHOT_MODEL: ")


def test_completion_and_version():
    environment = {**os.environ, "_ONESHOT_COMPLETE": "complete_bash", "COMP_WORDS": "oneshot class", "COMP_CWORD": "1"}
    done = subprocess.run([ONESHOT], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert {"classify", "classes"} <= set(done.stdout.split())
    assert CliRunner().invoke(cli, ["--version"]).output.startswith("oneshot 0.")


def test_labels_come_from_folders_or_files(folder: Path, tmp_path: Path):
    found = find_images([folder, folder / "beta/1.png"])
    assert [item.label for item in found.items] == ["alpha", "alpha", "alpha", "beta", "gamma", "1"]
    assert [file.name for file in found.passed_over] == ["x.png", "notes.txt"]
