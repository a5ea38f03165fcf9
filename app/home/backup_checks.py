"""Checks of a backup's store and models, made before any of it is put in a data folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from app.errors import OneshotError, SchemaTooNewError, StartupError, StoreCorruptError, StoreUnavailableError
from app.store import SqlStore
from app.store.schema import metadata
from model.artifact import ArtifactError, check_files, read_manifest

#: Excludes what the migrations' statements did not create.
_OTHERS = "name NOT LIKE 'sqlite~_%' ESCAPE '~' AND tbl_name <> 'alembic_version'"
#: SQLite does not enforce the types of columns.
_ODD_ROWS = """
SELECT (SELECT count(*) FROM images WHERE typeof(image) <> 'blob')
     + (SELECT count(*) FROM embeddings WHERE typeof(embedding) <> 'blob')
     + (SELECT count(*) FROM supports JOIN classes ON classes.id = class_id JOIN galleries ON galleries.id = gallery_id
        WHERE typeof(embedding) <> 'blob' OR datetime(supports.created_at) IS NULL
        OR supports.model_digest = galleries.model_digest AND length(embedding) <> 4 * dim)
     + (SELECT count(*) FROM classes
        WHERE typeof(label) <> 'text' OR datetime(created_at) IS NULL OR datetime(updated_at) IS NULL)
     + (SELECT count(*) FROM galleries WHERE typeof(name) <> 'text' OR datetime(created_at) IS NULL)
     + (SELECT count(*) FROM calibrations WHERE NOT json_valid(content))
     + (SELECT count(*) FROM meta WHERE key IN ('pruned', 'commits') AND (value = '' OR value GLOB '*[^0-9]*'))
"""


class BackupError(OneshotError):
    """The file is not an intact backup; nothing was changed."""


def check_store(path: Path) -> None:
    """Migrate the store of a backup. Raises BackupError unless it is intact, SchemaTooNewError."""
    with _damage(path), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        _refuse_what_acts(connection)
        for check in ("integrity_check", "foreign_key_check"):
            found = connection.execute(f"PRAGMA {check}").fetchall()
            if found not in ([], [("ok",)]):
                raise BackupError(f"The backup's store is damaged: {found[0]}.")
    with _damage(path), closing(SqlStore(path)) as store:  # migrates an older schema, refuses a newer one
        with closing(sqlite3.connect(path)) as connection:
            if _schema(connection) != _expected_schema():
                raise BackupError("The backup's store has other tables than a store has.")
            if connection.execute(_ODD_ROWS).fetchone() != (0,):
                raise BackupError("The backup's store is damaged: it has values of another kind than their columns.")
        store.inspect(lambda _seconds: True)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except SchemaTooNewError:
        raise
    except (sqlite3.Error, StoreCorruptError, StoreUnavailableError, StartupError) as error:
        reason = str(error).replace(str(path), path.name)
        raise BackupError(f"The backup's store is damaged: {reason}") from error


def _refuse_what_acts(connection: sqlite3.Connection) -> None:
    """A store has tables and indices only. A trigger or a view could run code on later reads or writes."""
    query = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
    for (name,) in connection.execute(query):
        raise BackupError(f"The backup's store has something that no store has: {name!r}.")


def _schema(connection: sqlite3.Connection) -> dict[str, str]:
    """The statement that created each table and index, with white space normalised."""
    rows = connection.execute(f"SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND {_OTHERS}")  # noqa: S608
    return {name: " ".join(sql.split()) for name, sql in rows}


def _expected_schema() -> dict[str, str]:
    engine = sa.create_engine("sqlite://")
    try:
        metadata.create_all(engine)
        with closing(engine.raw_connection()) as connection:
            driver = connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - of this engine
            return _schema(driver)
    finally:
        engine.dispose()


def check_model(folder: Path) -> None:
    """Raise BackupError unless the folder is an intact artefact with the digest that is its name."""
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
    except ArtifactError as error:
        reason = str(error).replace(f"{folder}/", "")
        raise BackupError(f"The model {folder.name[:12]} is damaged: {reason}") from error
    if manifest.digest != folder.name:
        raise BackupError(f"What is stored as the model {folder.name[:12]} is {manifest.digest[:12]}.")
