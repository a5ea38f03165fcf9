"""Backup while serving, restore with verification, export and import; none of them contains deleted data."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import ConflictError, OneshotError
from app.home.backup import back_up, restore
from app.home.backup_checks import BackupError
from app.home.export import export_gallery
from app.home.lock import serving
from app.store import OnConflict, SqlStore
from testing.served import Running
from testing.stores import put_new_store, support

REPLACE = OnConflict.REPLACE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with 50 classes."""
    folder = tmp_path / "home"
    folder.mkdir()
    store = SqlStore(put_new_store(folder / "oneshot.db"))
    items = [support(f"c{n}", (n, 1), b"<image %03d>" % n * 100) for n in range(50)]
    store.enroll("g", items, REPLACE)
    store.close()
    return folder


def contents(folder: Path) -> dict[str, tuple[bytes, list[list[float]]]]:
    store = SqlStore(folder / "oneshot.db")
    try:
        return {
            each.label: (
                store.read_image("g", each.label)[0],
                [shot.embedding.tolist() for shot in store.list_supports("g", each.label)],
            )
            for each in store.list_classes("g", 1000).items
        }
    finally:
        store.close()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_while_serving_is_a_whole_data_folder(serve, images: list[bytes], tmp_path: Path):
    home, file = tmp_path / "home", tmp_path / "backup"
    with serve() as server:
        for number, image in enumerate(images):
            server.enroll(f"c{number}", image)
        done = CliRunner().invoke(cli, ["backup", str(file), "--home", str(home), "--json"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["path"], told["galleries"], told["classes"]) == (str(file), 1, len(images))
        server.enroll("later", images[0])
        refused = CliRunner().invoke(cli, ["restore", str(file), "--home", str(home), "--replace"])
        assert refused.exit_code == 2
    other = tmp_path / "other"
    back = CliRunner().invoke(cli, ["restore", str(file), "--home", str(other)])
    assert back.exit_code == 0
    assert f"{other}: 1 gallery, {len(images)} classes, {len(images)} shots" in back.stdout
    status = CliRunner().invoke(cli, ["model", "status", "--home", str(other), "--json"])
    assert json.loads(status.stdout)["available"] == told["models"]
    exported = tmp_path / "exported"
    done = CliRunner().invoke(cli, ["export", str(exported), "--home", str(other), "--json"])
    assert json.loads(done.stdout) == {"folder": str(exported), "images": len(images), "classes": len(images)}
    with serve(home=other, model=None) as server:  # the backup includes the model
        classes = server.client.get("/classes").json()["classes"]
        assert [each["label"] for each in classes] == [f"c{number}" for number in range(len(images))]
        assert server.classify(images[3], threshold=0).json()["label"] == "c3"


def test_what_was_deleted_is_in_no_later_backup(home: Path, tmp_path: Path):
    store = SqlStore(home / "oneshot.db")
    before, after = tmp_path / "before", tmp_path / "after"
    try:
        vector = np.random.default_rng(1).normal(size=2).astype(np.float32)
        store.enroll("g", [support("<secret>", vector.tolist(), b"<the secret image>")], REPLACE)
        back_up(home, before)
        store.remove_class("g", "<secret>")
        back_up(home, after)
    finally:
        store.close()
    needles = (b"<secret>", b"<the secret image>", vector.tobytes())
    assert [needle in before.read_bytes() for needle in needles] == [True] * 3
    assert [needle in after.read_bytes() for needle in needles] == [False] * 3


def test_restoring_gives_back_everything_and_another_identity(home: Path, tmp_path: Path):
    file, other = tmp_path / "backup", tmp_path / "other"
    assert back_up(home, file).classes == 50
    restore(file, other)
    assert contents(other) == contents(home)
    ids = []
    for folder in (home, other):
        store = SqlStore(folder / "oneshot.db")
        ids.append(store.models.fact("store_id"))
        store.close()
    assert ids[0] != ids[1]


def test_restoring_over_a_store_takes_asking_and_leaves_nothing_of_it(home: Path, tmp_path: Path):
    file = tmp_path / "backup"
    back_up(home, file)
    store = SqlStore(home / "oneshot.db")
    store.enroll("g", [support("new", (1, 1), b"<new image>")], REPLACE)
    store.close()
    with pytest.raises(ConflictError, match="has a store already"):
        restore(file, home)
    assert "new" in contents(home)
    restore(file, home, over=True)
    assert "new" not in contents(home)
    assert not any(b"<new image>" in content for content in files(home).values())


def test_no_restore_while_served(home: Path, tmp_path: Path):
    back_up(home, tmp_path / "backup")
    with serving(home), serving(home), pytest.raises(ConflictError, match="being served"):
        restore(tmp_path / "backup", home, over=True)
    with serving(home, exclusive=True), pytest.raises(ConflictError, match="being restored"), serving(home):
        pass


def damaged(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    match how:
        case "cut":
            content = content[: len(content) // 2]
        case "flipped":
            content[len(content) // 2] ^= 1
        case "manifest":
            content[700] ^= 1
        case "empty":
            content = bytearray()
        case "text":
            content = bytearray(b"no backup at all" * 100)
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "flipped", "manifest", "empty", "text"])
def test_a_damaged_backup_touches_nothing(home: Path, tmp_path: Path, how: str):
    file = tmp_path / "backup"
    back_up(home, file)
    damaged(file, how)
    before = files(home)
    with pytest.raises((BackupError, ConflictError)):
        restore(file, home, over=True)
    after = files(home)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"serving.lock"}


def test_random_damage_is_always_noticed_or_harmless(home: Path, tmp_path: Path):
    file, chance = tmp_path / "backup", random.Random(5)
    back_up(home, file)
    whole, expected = file.read_bytes(), contents(home)
    for number in range(30):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        other = tmp_path / f"other{number}"
        try:
            restore(file, other)
        except BackupError:
            assert not (other / "oneshot.db").exists()
        else:  # the changed byte was padding, or in a header's time
            assert contents(other) == expected


def test_names_outside_the_folder_are_refused(home: Path, tmp_path: Path):
    file, evil = tmp_path / "backup", tmp_path / "evil"
    back_up(home, file)
    with tarfile.open(file) as source:
        manifest = json.loads(source.extractfile("manifest.json").read())  # type: ignore[union-attr]
    manifest["files"]["../outside"] = manifest["files"].pop("oneshot.db")
    manifest["files"]["oneshot.db"] = manifest["files"]["../outside"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(evil, "w", format=tarfile.PAX_FORMAT) as target:
        target.add(tmp_path / "manifest.json", "manifest.json")
        target.add(home / "oneshot.db", "../outside")
    with pytest.raises(BackupError, match="outside"):
        restore(evil, tmp_path / "other")
    assert not (tmp_path / "outside").exists()


def back_and_forth(home: Path, file: Path, other: Path) -> None:
    back_up(home, file)
    restore(file, other)


def test_a_store_with_a_damaged_page_is_not_restored(home: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(home, broken)
    connection = sqlite3.connect(broken / "oneshot.db")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'images'")
    connection.commit()
    connection.close()
    file = tmp_path / "backup"
    with pytest.raises(OneshotError):
        back_and_forth(broken, file, tmp_path / "other")
    assert not (tmp_path / "other" / "oneshot.db").exists()


def test_export_and_enrolling_it_again_is_the_same_gallery(served: Running, images: list[bytes], tmp_path: Path):
    labels = ["a", "A", "é", "日本/語", "../../etc/passwd", "a%2Fb", "*", "x" * 255]
    for label, image in zip(labels, images, strict=False):
        assert served.enroll(label, image, gallery="odd").status_code == 201
    served.enroll(labels[0], images[7], gallery="odd", on_conflict="add")
    folder = tmp_path / "exported"
    count = export_gallery(served.service.store, "odd", folder)
    assert count == 9
    done = CliRunner().invoke(cli, ["enroll", str(folder), "--gallery", "again", "--url", served.url])
    assert done.exit_code == 0, done.output
    for gallery in ("odd", "again"):
        shots = served.client.get("/classes", params={"gallery": gallery}).json()["classes"]
        assert {each["label"]: each["shots"] for each in shots}[labels[0]] == 2
    for label in labels:
        assert served.service.store.read_image("again", label) == served.service.store.read_image("odd", label)


def test_the_model_verbs(tmp_path: Path, artifact_of, serve, images: list[bytes]):
    home = tmp_path / "home"
    with serve() as server:
        server.enroll("a", images[0])
    other = artifact_of("euclidean")
    done = CliRunner().invoke(cli, ["model", "switch", str(other), "--home", str(home)])
    assert done.exit_code == 0, done.output
    assert "model     test-euclidean@" in done.output
    assert "0 of 1 images done" in done.output
    back = CliRunner().invoke(cli, ["model", "rollback", "--home", str(home)])
    assert "model     test-cosine@" in back.output
    told = CliRunner().invoke(cli, ["model", "status", "--home", str(home)])
    assert "previous  test-euclidean@" in told.output
    wrong = CliRunner().invoke(cli, ["model", "switch", str(tmp_path), "--home", str(home)])
    assert wrong.exit_code == 2
