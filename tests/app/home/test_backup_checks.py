"""A backup that does not match its manifest is refused with one line, and nothing is changed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import StoreCorruptError
from app.home.backup import back_up, restore
from app.home.backup_checks import BackupError
from app.home.model_shelf import ModelShelf
from app.store import STORE_FILE, OnConflict, SqlStore
from model.artifact import MANIFEST_FILE, NETWORK_FILE, WEIGHTS_FILE, write_manifest
from testing.stores import put_new_store, support

Members = dict[str, bytes]
Kind = bytes


@pytest.fixture
def home(tmp_path: Path, artifact: Path) -> Path:
    """A data folder with a model and five classes."""
    folder = tmp_path / "home"
    folder.mkdir()
    digest = ModelShelf(folder).put(artifact)
    store = SqlStore(put_new_store(folder / STORE_FILE))
    items = [support(f"c{number}", [number] * 16, b"image %d" % number, digest) for number in range(5)]
    store.enroll("g", items, OnConflict.REPLACE)
    store.models.want(digest)
    store.close()
    return folder


@pytest.fixture
def members(home: Path, tmp_path: Path) -> Members:
    """The members of a valid backup, in order."""
    back_up(home, tmp_path / "whole")
    with tarfile.open(tmp_path / "whole") as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def sealed(members: Members, **told: object) -> Members:
    """The same members with matching checksums in the manifest."""
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
        if name != "manifest.json"
    }
    manifest = json.loads(members["manifest.json"]) | {"files": files} | told
    return members | {"manifest.json": json.dumps(manifest).encode()}


def write(file: Path, members: Members, kinds: dict[str, Kind] | None = None) -> Path:
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.type = (kinds or {}).get(name, tarfile.REGTYPE)
            member.linkname = "elsewhere"
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return file


def refusal(file: Path, folder: Path) -> str:
    """Run the restore, which must fail with one line and leave the folder empty; return the line."""
    done = CliRunner().invoke(cli, ["restore", str(file), "--home", str(folder)])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    [line] = done.stderr.splitlines()
    left = {path.name for path in folder.rglob("*")} if folder.exists() else set()
    assert left <= {"serving.lock"}
    return line


def altered(store: bytes, script: str, folder: Path) -> bytes:
    path = folder / "altered"
    path.write_bytes(store)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(script)
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "PRAGMA foreign_keys = ON; DELETE FROM galleries",
            "galleries are 0, not 1",
        ),
        ("PRAGMA foreign_keys = ON; DELETE FROM classes WHERE id = 3", "classes are 4, not 5"),
        ("DELETE FROM images WHERE support_id = 3", "images are 4, not 5"),
        ("UPDATE meta SET value = 'x' WHERE key = 'model'", "models are"),
        ("CREATE TRIGGER t AFTER INSERT ON supports BEGIN DELETE FROM supports; END", "no store has: 't'"),
        ("CREATE VIEW v AS SELECT * FROM classes", "no store has: 'v'"),
        ("CREATE TABLE extra (a)", "other tables"),
        ("DROP INDEX ix_supports_class_id", "other tables"),
        ("UPDATE images SET image = x'00' WHERE support_id = 2", "1 have another checksum"),
        ("UPDATE supports SET embedding = 'text' WHERE id = 2", "another kind"),
        ("UPDATE supports SET embedding = x'00', checksum = NULL WHERE id = 2", "another kind"),
        ("UPDATE classes SET created_at = 'never' WHERE id = 2", "another kind"),
        ("UPDATE meta SET key = 'commits', value = 'x' WHERE key = 'commits'", "another kind"),
        ("PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'x' WHERE name = 'images'", "malformed"),
        ("UPDATE alembic_version SET version_num = '9999'", "newer version"),
        ("DROP TABLE alembic_version", "something else"),
    ],
)
def test_a_store_that_is_not_what_it_should_be(members: Members, tmp_path: Path, script: str, message: str):
    store = altered(members[STORE_FILE], script, tmp_path)
    file = write(tmp_path / "backup", sealed(members | {STORE_FILE: store}))
    assert message in refusal(file, tmp_path / "other")


def model_file(members: Members, end: str) -> str:
    return next(name for name in members if name.startswith("models/") and name.endswith(end))


@pytest.mark.parametrize("end", [WEIGHTS_FILE, NETWORK_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_a_model_that_is_not_what_its_manifest_says(members: Members, tmp_path: Path, end: str, how: str):
    name = model_file(members, end)
    content = bytearray(members.pop(name))
    content[len(content) // 2] ^= 1
    if how == "flipped":
        members[name] = bytes(content)
    file = write(tmp_path / "backup", sealed(members))
    assert "is damaged: " in refusal(file, tmp_path / "other")


def test_a_model_in_the_place_of_another(members: Members, tmp_path: Path, artifact_of: Callable[[str], Path]):
    other = artifact_of("euclidean")
    for end in (WEIGHTS_FILE, NETWORK_FILE, MANIFEST_FILE):
        members[model_file(members, end)] = (other / end).read_bytes()
    file = write(tmp_path / "backup", sealed(members))
    assert "What is stored as the model" in refusal(file, tmp_path / "other")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"format": 2, "files": {"oneshot.db": {}}}',
        b'{"format": 1, "files": {"oneshot.db": 5}}',
        b'{"format": 1, "files": {"oneshot.db": {"bytes": 1e99, "sha256": 3}}}',
        b'{"format": 1, "created": "", "galleries": "x", "classes": -1}',
    ],
)
def test_a_manifest_that_is_none(members: Members, tmp_path: Path, manifest: bytes):
    file = write(tmp_path / "backup", members | {"manifest.json": manifest})
    assert "no backup that this version can read" in refusal(file, tmp_path / "other")


def test_a_manifest_that_lacks_something(members: Members, tmp_path: Path):
    content = json.loads(members["manifest.json"])
    del content["classes"]
    file = write(tmp_path / "backup", members | {"manifest.json": json.dumps(content).encode()})
    assert "no backup that this version can read" in refusal(file, tmp_path / "other")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("name", ["manifest.json", STORE_FILE])
def test_a_member_that_is_no_file(members: Members, tmp_path: Path, kind: Kind, name: str):
    assert refusal(write(tmp_path / "backup", members, {name: kind}), tmp_path / "other")


def test_a_member_of_another_size_is_not_unpacked(members: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "fsync", None)  # would fail as soon as a member has been written
    members[STORE_FILE] += b"more"
    assert "not what its manifest says" in refusal(write(tmp_path / "backup", members), tmp_path / "other")


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert "is not a file" in refusal(path, tmp_path / "other")
    assert "is not there" in refusal(tmp_path / "missing", tmp_path / "other")


def test_a_damaged_model_in_the_folder_gives_way(home: Path, tmp_path: Path):
    back_up(home, tmp_path / "backup")
    [folder] = (home / "models").iterdir()
    good = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(b"damaged")
    restore(tmp_path / "backup", home, over=True)
    assert (folder / WEIGHTS_FILE).read_bytes() == good
    manifest = ModelShelf(home).load(folder.name).manifest
    calibration = manifest.calibration.model_copy(update={"prior": 0.1})
    write_manifest(folder, manifest.model_copy(update={"calibration": calibration}))
    restore(tmp_path / "backup", home, over=True)
    assert ModelShelf(home).load(folder.name).manifest == manifest


def test_what_is_damaged_is_not_backed_up(home: Path, tmp_path: Path):
    back_up(home, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    [folder] = (home / "models").iterdir()
    good = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(b"damaged")
    with pytest.raises(BackupError, match="is damaged"):
        back_up(home, tmp_path / "backup")
    (folder / WEIGHTS_FILE).write_bytes(good)
    connection = sqlite3.connect(home / STORE_FILE)
    connection.execute("UPDATE images SET checksum = checksum + 1 WHERE support_id = 4")
    connection.commit()
    connection.close()
    with pytest.raises(StoreCorruptError):
        back_up(home, tmp_path / "backup")
    assert (tmp_path / "backup").read_bytes() == before
