"""Backup of a data folder to one file while it is served, and restore, which verifies everything first.

The file is a tar: `manifest.json` first, then the store and the artefacts of the models that its galleries use. The
store is written by `VACUUM INTO`: one snapshot, without free pages in which deleted content could remain.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, NonNegativeInt, ValidationError

from app.errors import ConflictError, StartupError
from app.home.backup_checks import BackupError, check_model, check_store
from app.home.flushing import flush
from app.home.lock import INDEX_FOLDER, serving
from app.home.model_shelf import MODELS_FOLDER, ModelShelf
from app.store import STORE_FILE, SqlStore
from app.store.sqlite import beside, translated_errors
from model.artifact import GRAPH_FILE, GRAPH_WEIGHTS_FILE, MANIFEST_FILE, NETWORK_FILE, WEIGHTS_FILE, files_of

_MANIFEST = "manifest.json"
_FORMAT: Literal[1] = 1
_FILES = "|".join((MANIFEST_FILE, WEIGHTS_FILE, NETWORK_FILE, GRAPH_FILE, GRAPH_WEIGHTS_FILE))
_MEMBER = re.compile(rf"{STORE_FILE}|{MODELS_FOLDER}/[0-9a-f]{{64}}/({_FILES})")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Summary:
    """What a backup contains."""

    created: str
    galleries: int
    classes: int
    shots: int
    images: int
    models: list[str]


class _File(BaseModel):
    bytes: NonNegativeInt
    sha256: str


class _Manifest(BaseModel):
    """The first member of a backup."""

    format: Literal[1] = _FORMAT
    created: str
    galleries: NonNegativeInt
    classes: NonNegativeInt
    shots: NonNegativeInt
    images: NonNegativeInt
    models: list[str]
    files: dict[str, _File]

    @property
    def summary(self) -> Summary:
        """The contents according to the manifest."""
        return Summary(**self.model_dump(exclude={"format", "files"}))


def back_up(home: Path, file: Path) -> Summary:
    """Write the data folder to `file`, also while it is served. Raises StoreUnavailableError, StoreCorruptError."""
    source = home / STORE_FILE
    if not source.is_file():
        raise BackupError(f"There is no store in {home}.")
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=file.resolve().parent) as folder:
        copy = Path(folder) / STORE_FILE
        with translated_errors(), closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as opened:
            opened.execute("PRAGMA busy_timeout = 10000")
            opened.execute("VACUUM INTO ?", (str(copy),))
        with closing(SqlStore(copy)) as store:  # migrates the copy; the data folder stays as it is
            store.inspect(lambda _seconds: True)  # a damaged backup must not replace an earlier one
        members = {STORE_FILE: copy} | _artefacts(home, _digests(copy))
        summary = _summarise(copy)
        unfinished = Path(folder) / "backup.tar"
        _write(unfinished, members, summary)
        unfinished.replace(file)
    flush(file.resolve().parent)
    return summary


def restore(file: Path, home: Path, over: bool = False) -> Summary:
    """Replace the content of the data folder by that of the backup. Everything is verified first.

    Raises BackupError (not an intact backup), ConflictError (the folder has a store and `over` is false, or it is being
    served), SchemaTooNewError. The folder is then unchanged.
    """
    with serving(home, exclusive=True):
        if (home / STORE_FILE).exists() and not over:
            raise ConflictError(f"The data folder {home} has a store already; --replace puts the backup in its place.")
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=home) as folder:
            staged = Path(folder)
            summary = _unpack(file, staged)
            _check(staged, summary)
            _put_in_place(staged, home)
    return summary


def _digests(store: Path) -> set[str]:
    with translated_errors(), closing(sqlite3.connect(store)) as connection:
        used = connection.execute("SELECT model_digest FROM galleries UNION SELECT value FROM meta WHERE key = 'model'")
        return {digest for (digest,) in used}


def _artefacts(home: Path, digests: set[str]) -> dict[str, Path]:
    shelf = ModelShelf(home)
    # both forms: the backup may be restored where only one of them runs
    both = {form for digest in digests if digest in shelf for form in shelf.forms(digest) if form}
    for digest in both:
        check_model(shelf.path(digest))
    return {
        f"{MODELS_FOLDER}/{digest}/{name}": shelf.path(digest) / name
        for digest in sorted(both)
        if (manifest := shelf.manifest(digest))
        for name in files_of(manifest)
    }


def _summarise(store: Path) -> Summary:
    with translated_errors(), closing(sqlite3.connect(store)) as connection:
        tables = ("galleries", "classes", "supports", "images")
        found = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]  # noqa: S608
    counts = dict(zip(("galleries", "classes", "shots", "images"), found, strict=True))
    return Summary(created=datetime.now(UTC).isoformat(timespec="seconds"), models=sorted(_digests(store)), **counts)


def _write(target: Path, members: dict[str, Path], summary: Summary) -> None:
    files = {name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for name, path in members.items()}
    content = json.dumps({"format": _FORMAT, **asdict(summary), "files": files}, indent=2).encode()
    with target.open("wb") as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            head = tarfile.TarInfo(_MANIFEST)
            head.size = len(content)
            tar.addfile(head, io.BytesIO(content))
            for name, path in members.items():
                member = tarfile.TarInfo(name)
                member.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(member, file)
        raw.flush()
        os.fsync(raw.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(file: Path, folder: Path) -> Summary:
    """Write all members to the folder, checked against the manifest. Other names than a backup's are refused."""
    if not file.is_file():  # reading a pipe or a device may never end
        raise BackupError(f"{file} is {'not a file' if file.exists() else 'not there'}.")
    try:
        with tarfile.open(file, mode="r:") as tar:
            manifest = _manifest(file, tar)
            left = dict(manifest.files)
            while (member := tar.next()) is not None:
                expected = left.pop(member.name, None) if member.isreg() and _MEMBER.fullmatch(member.name) else None
                source = None if expected is None else tar.extractfile(member)
                if expected is None or source is None:
                    raise BackupError(f"{file} holds {member.name!r}, which is not in its manifest.")
                _copy_checked(source, folder / member.name, member, expected)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BackupError(f"{file} is no whole backup: {error}.") from error
    except OSError as error:
        raise BackupError(f"{file} can't be read: {error.strerror or error}.") from error
    if left:
        raise BackupError(f"{file} is cut off: {', '.join(left)} is missing.")
    return manifest.summary


def _manifest(file: Path, tar: tarfile.TarFile) -> _Manifest:
    head = tar.next()
    content = tar.extractfile(head) if head is not None and head.isreg() and head.name == _MANIFEST else None
    if content is None:
        raise BackupError(f"{file} is no backup: it has no {_MANIFEST}.")
    try:
        manifest = _Manifest.model_validate_json(content.read(_BLOCK))
    except ValidationError as error:
        raise BackupError(f"{file} is no backup that this version can read.") from error
    if STORE_FILE not in manifest.files:
        raise BackupError(f"{file} is no backup that this version can read.")
    return manifest


def _copy_checked(source: IO[bytes], target: Path, member: tarfile.TarInfo, expected: _File) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    if member.size == expected.bytes:  # else it is refused below; don't fill the disk with it
        with target.open("wb") as out:
            while block := source.read(_BLOCK):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    if (member.size, digest.hexdigest()) != (expected.bytes, expected.sha256):
        raise BackupError(f"The backup is damaged: {member.name} is not what its manifest says.")


def _check(staged: Path, told: Summary) -> None:
    """Raise BackupError unless the store and the models are intact and the store holds what the manifest says."""
    store = staged / STORE_FILE
    check_store(store)
    found, expected = asdict(_summarise(store)), asdict(told) | {"models": sorted(told.models)}
    for name in ("galleries", "classes", "shots", "images", "models"):
        if found[name] != expected[name]:
            raise BackupError(f"The backup is damaged: its {name} are {found[name]}, not {expected[name]}.")
    for folder in (staged / MODELS_FOLDER).glob("*"):
        check_model(folder)
    with closing(SqlStore(store)) as opened:
        opened.models.renew_identity(secrets.token_hex(16))  # invalidates indices built from the old content


def _put_in_place(staged: Path, home: Path) -> None:
    for artefact in list((staged / MODELS_FOLDER).glob("*")):
        target = home / MODELS_FOLDER / artefact.name
        target.parent.mkdir(exist_ok=True)
        if _same(artefact, target):
            continue
        flush(artefact)
        if target.exists():  # damaged, or with another calibration
            target.rename(staged / artefact.name)
        artefact.rename(target)
        flush(target.parent)
    shutil.rmtree(home / INDEX_FOLDER, ignore_errors=True)
    _settle(home / STORE_FILE)
    (staged / STORE_FILE).replace(home / STORE_FILE)
    flush(home)


def _same(artefact: Path, other: Path) -> bool:
    """Whether the other folder has an intact artefact with the same manifest."""
    try:
        check_model(other)
        return (artefact / MANIFEST_FILE).read_bytes() == (other / MANIFEST_FILE).read_bytes()
    except (BackupError, OSError):
        return False


def _settle(store: Path) -> None:
    """Delete all files that belong to the old store; the new store would take them for its own."""
    if store.exists():
        with contextlib.suppress(StartupError):  # damaged: it is replaced anyway
            SqlStore(store).close()
    for file in beside(store):
        file.unlink(missing_ok=True)
