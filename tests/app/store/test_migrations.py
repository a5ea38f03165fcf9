"""Opening: every older schema is migrated, and a foreign file is refused with one line and left unchanged."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.errors import SchemaTooNewError, StartupError
from app.store import OnConflict, SqlStore
from app.store.migrations import latest, migrate, script_of_the_steps
from app.store.schema import metadata
from app.store.sqlite import Database
from testing.stores import support


def sql_of(path: Path) -> dict[str, str]:
    """The normalised CREATE statement of each table and index, except Alembic's own table."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {name: " ".join(sql.split()) for name, sql in rows if name != "alembic_version"}


def refusal(path: Path) -> str:
    """The one-line error of opening the store; the file and its folder must not change."""
    before, beside = path.read_bytes(), sorted(path.parent.iterdir())
    with pytest.raises(StartupError) as error:
        SqlStore(path)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == beside
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_migrating_from_empty_makes_the_schema_that_the_code_describes(path: Path, tmp_path: Path):
    SqlStore(path).close()
    described = tmp_path / "described.db"
    engine = sa.create_engine(f"sqlite:///{described}")
    metadata.create_all(engine)
    engine.dispose()
    assert sql_of(path) == sql_of(described)
    assert len(sql_of(path)) >= len(metadata.tables)


def test_alembic_finds_nothing_to_change(store: SqlStore):
    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_opening_again_changes_nothing(store: SqlStore, path: Path):
    before = sql_of(path)
    store.enroll("g", [support("a")], OnConflict.REPLACE)
    store.close()
    again = SqlStore(path)
    assert again.get_class("g", "a").supports == 1
    again.close()
    assert sql_of(path) == before


def _migrate_and_stop(database: Database) -> None:
    with database.write() as connection:
        migrate(connection)
        assert sa.inspect(connection).get_table_names() != []
        raise KeyboardInterrupt


def test_a_migration_that_does_not_finish_leaves_nothing(path: Path):
    database = Database(path)
    try:
        with pytest.raises(KeyboardInterrupt):
            _migrate_and_stop(database)
        with database.read() as connection:
            assert sa.inspect(connection).get_table_names() == []
    finally:
        database.close()


def test_an_empty_file_becomes_a_store(path: Path):
    path.touch()
    SqlStore(path).close()
    assert "galleries" in sql_of(path)


def test_a_folder_is_made_at_need(tmp_path: Path):
    deep = tmp_path / "50% of" / "a folder" / "store.db"
    SqlStore(deep).close()
    assert deep.is_file()


def test_a_newer_schema_is_refused(store: SqlStore, path: Path):
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    line = refusal(path)
    assert "newer version" in line
    assert "9999" in line
    with pytest.raises(SchemaTooNewError):
        SqlStore(path)


def test_a_file_that_is_no_database_is_refused(path: Path):
    path.write_bytes(b"just some text, but long enough for a header " * 200)
    assert "not a database" in refusal(path)


def test_a_database_of_something_else_is_refused(path: Path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY)")
    connection.commit()
    connection.close()
    assert "recipes" in refusal(path)


def test_a_folder_in_the_file_s_place_is_refused(path: Path):
    path.mkdir()
    with pytest.raises(StartupError, match="unable to open"):
        SqlStore(path)


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="Can't open the store"):
        SqlStore(tmp_path / "file" / "store.db")


REVISIONS = [step.revision for step in script_of_the_steps().walk_revisions()][::-1]


def at_revision(path: Path, revision: str) -> None:
    """Create a store of an earlier schema with one class."""
    connection = sqlite3.connect(path, isolation_level=None)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as opened:
        migrate(opened, revision)
    engine.dispose()
    connection.executescript(
        """
        INSERT INTO galleries (id, name, model_digest, dim, created_at)
            VALUES (7, 'g', 'digest', 2, '2026-01-01 00:00:00.000000');
        INSERT INTO classes (id, gallery_id, label, created_at, updated_at)
            VALUES (3, 7, 'a', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000');
        INSERT INTO supports (id, class_id, media_type, embedding, model_digest, created_at)
            VALUES (5, 3, 'image/png', x'0000803f00000040', 'digest', '2026-01-01 00:00:00.000000');
        INSERT INTO images (support_id, image) VALUES (5, x'616263');
        INSERT INTO changes (gallery_id, class_id, at)
            VALUES (7, NULL, '2026-01-01 00:00:00.000000'), (7, 3, '2026-01-01 00:00:00.000000');
        """
    )
    if revision >= "0002":
        connection.execute(
            "INSERT INTO calibrations (gallery_id, content) VALUES (7, '{}')"
            if revision < "0006"
            else "INSERT INTO calibrations (gallery_id, model_digest, content) VALUES (7, 'digest', '{}')"
        )
    connection.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_every_earlier_schema_becomes_the_present_one(path: Path, tmp_path: Path, revision: str):
    at_revision(path, revision)
    new = tmp_path / "new.db"
    SqlStore(new).close()
    opened = SqlStore(path)
    try:
        assert sql_of(path) == sql_of(new)
        assert opened.read_image("g", "a") == (b"abc", "image/png")
        [shot] = opened.list_supports("g", "a")
        assert (shot.id, shot.embedding.tolist()) == (5, [1.0, 2.0])
        [change] = opened.changes_since(0).galleries
        assert (change.classes, change.vectors.tolist()) == ({3: "a"}, [[1.0, 2.0]])
        assert opened.models.fact("store_id")
        assert [record.calibrated for record in opened.list_galleries()] == [revision >= "0002"]
        [outcome] = opened.enroll("g", [support("b")], OnConflict.FAIL)
        assert outcome.created
    finally:
        opened.close()


def test_files_are_named_by_their_revisions():
    """`migrate` finds the latest revision by file name, so that most starts do not import Alembic."""
    assert latest() == script_of_the_steps().get_current_head()
