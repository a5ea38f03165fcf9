"""Bulk enrolment with Ray Data: existing classes, invalid files, and a run that is killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from app.store import OnConflict, SqlStore
from testing.factories import draw_character, png_bytes
from testing.ray_alone import ROOT, command_alone, environment_alone, missing
from testing.served import make_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # from Ray's modules
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why := missing()), reason=why or ""),
]

CLASSES = 500
ADD, FAIL, REPLACE = OnConflict.ADD, OnConflict.FAIL, OnConflict.REPLACE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many classes of three images, two of a single one, and three files that are not images."""
    root: Path = tmp_path_factory.mktemp("enrol") / "pictures"
    drawn = [[png_bytes(draw_character(character, jitter=shot)) for shot in range(3)] for character in range(7)]
    for character in range(CLASSES):
        (root / f"c{character:03}").mkdir(parents=True)
        for shot, image in enumerate(drawn[character % 7]):
            (root / f"c{character:03}/{shot}.png").write_bytes(image + f"{character} {shot}".encode())
    (root / "lone.png").write_bytes(png_bytes(draw_character(99)))
    (root / "ä 100%?#").mkdir()
    (root / "ä 100%?#/a b.png").write_bytes(png_bytes(draw_character(98)))
    (root / "c000/bad.png").write_bytes(b"no image")
    (root / "c001/empty.png").write_bytes(b"")
    (root / "notes.txt").write_text("no image")
    return root


# -- missing images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "images", "rule", "expected"),
    [
        ([], [b"a", b"b"], REPLACE, [0, 1]),
        ([b"a"], [b"a", b"b"], REPLACE, [1]),
        ([b"b", b"a"], [b"a", b"b"], REPLACE, []),
        ([b"a", b"a"], [b"a", b"a", b"a"], REPLACE, [2]),
        ([b"x"], [b"a"], REPLACE, None),
        ([b"a", b"x"], [b"a"], REPLACE, None),
        ([b"a", b"a"], [b"a"], REPLACE, None),
        ([None], [b"a"], REPLACE, None),
        ([b"x"], [b"a"], FAIL, None),
        ([b"a"], [b"a", b"b"], FAIL, [1]),
        ([b"a", b"x"], [b"a", b"b"], ADD, [1]),
        ([None], [b"a"], ADD, [0]),
    ],
)
def test_what_a_class_lacks(stored: list[bytes | None], images: list[bytes], rule: OnConflict, expected: object):
    from app.on_ray.enrolling import missing as lacking  # noqa: PLC0415 - an extra

    assert lacking(stored, images, rule) == expected


def test_a_prefix_has_the_classes_of_the_folder(folder: Path):
    from app.on_ray.sources import find_sources, read  # noqa: PLC0415 - an extra

    (by_folder, _), (by_prefix, _) = find_sources([str(folder)]), find_sources([f"file://{folder}"])
    assert [source.label for source in by_prefix] == [source.label for source in by_folder]
    for one, other in zip(by_folder, by_prefix, strict=True):
        assert [f"file://{quote(file)}" for file in one.files] == list(other.files)
        assert [read(file) for file in one.files] == [read(file) for file in other.files]
    assert len(by_folder) == CLASSES + 2
    assert {source.label for source in find_sources([f"file://{folder}/c000"], "one")[0]} == {"one"}
    with pytest.raises(OSError, match="nowhere"):
        find_sources([f"file://{folder}/nowhere"])
    with pytest.raises(ValueError, match="nosuch"):
        find_sources(["nosuch://bucket/a"])


# -- one process's work, without Ray -----------------------------------------------------------------------


def test_each_file_has_an_outcome_and_a_second_run_changes_nothing(folder: Path, artifact: Path, tmp_path: Path):
    import pyarrow as pa  # noqa: PLC0415

    from app.on_ray.enrolling import EnrolClasses  # noqa: PLC0415
    from app.on_ray.sources import find_sources  # noqa: PLC0415

    settings = make_settings(model=artifact, home=tmp_path / "home")
    rows = [{"label": source.label, "files": list(source.files)} for source in find_sources([str(folder)])[0]][:4]
    rows.append({"label": "x" * 300, "files": [str(folder / "lone.png"), str(folder / "gone.png")]})

    def enrol(rule: OnConflict) -> Counter[tuple[int, str | None, bool]]:
        found = EnrolClasses(settings, "g", rule)(pa.Table.from_pylist(rows))
        return Counter(zip(found["status"], found["problem"], found["skipped"], strict=True))

    bad: dict[tuple[int, str | None, bool], int] = {
        (422, "empty-image", False): 1,
        (415, "unsupported-image", False): 1,
    }
    bad |= {(422, "invalid-request", False): 1, (0, "client", False): 1}
    assert enrol(REPLACE) == bad | {(201, None, False): 4, (200, None, False): 8}
    with_store = SqlStore(tmp_path / "home" / "oneshot.db")
    version = with_store.head()
    for rule in (REPLACE, ADD, FAIL):
        assert enrol(rule) == bad | {(200, None, True): 12}
    assert with_store.head() == version
    rows[2]["files"] = rows[3]["files"][:2]  # other images for this class
    assert enrol(FAIL)[(409, "class-exists", False)] == 2
    assert enrol(REPLACE)[(200, None, False)] == 2
    assert sorted(filter(None, with_store.read_images("g", ["c002"])["c002"])) == sorted(
        Path(file).read_bytes() for file in rows[3]["files"][:2]
    )
    with_store.close()


# -- the whole command -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_was_killed_is_given_again_and_goes_on(folder: Path, artifact: Path, tmp_path: Path):
    oneshot = str(Path(sys.executable).parent / "oneshot")
    command = command_alone("testing.ray_program", [oneshot, "enroll", "--engine", "ray", str(folder), "--json"])
    environment = environment_alone() | {"ONESHOT_HOME": str(tmp_path / "home"), "ONESHOT_MODEL": str(artifact)}
    environment |= {"ONESHOT_EMBEDDERS": "1", "ONESHOT_DEVICE": "cpu", "ONESHOT_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for_classes(tmp_path / "home", first)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr  # two files are not images
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert Counter(each.get("problem") for each in told) == {
        None: 3 * CLASSES + 2,
        "empty-image": 1,
        "unsupported-image": 1,
    }
    skipped = sum(each.get("skipped", False) for each in told)
    assert 0 < skipped < 3 * CLASSES
    store = SqlStore(tmp_path / "home" / "oneshot.db")
    stored = store.read_images("default", [each.label for each in store.list_classes("default", 1000).items])
    store.close()
    assert set(stored) == {f"c{number:03}" for number in range(CLASSES)} | {"lone", "ä 100%?#"}
    for label, images in stored.items():
        files = [folder / "lone.png"] if label == "lone" else (folder / label).glob("[0-9a]*.png")
        assert sorted(filter(None, images)) == sorted(file.read_bytes() for file in files)


def _wait_for_classes(home: Path, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 240
    while True:
        there = suppress(sqlite3.OperationalError)  # the store may not exist yet
        with there, closing(sqlite3.connect(f"file:{home}/oneshot.db?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT 1 FROM classes LIMIT 1").fetchone():
                return
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
