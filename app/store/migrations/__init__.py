"""Migrations of the store's schema: one module in `versions/` per step, applied when a store is opened.

Released steps are never edited. A change of `app.store.schema` needs a new step (tests compare the two). PostgreSQL was
added to the first five steps before any store existed there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from app.errors import SchemaTooNewError, StartupError

if TYPE_CHECKING:  # Alembic takes a good part of a start to import, and most starts find a schema that is up to date
    from alembic.config import Config
    from alembic.script import ScriptDirectory

_FOLDER = Path(__file__).parent
_VERSION_TABLE = "alembic_version"


def script_of_the_steps() -> ScriptDirectory:
    """The steps as Alembic's script directory."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def migrate(connection: sa.Connection, target: str = "head") -> None:
    """Migrate the schema in the connection's open transaction, which must hold the write lock.

    `target` is the last step to apply; tests stop earlier.

    Raises SchemaTooNewError for a schema that this version does not know, StartupError for a database that is not
    a store at all.
    """
    current = _revision(connection)
    if current == latest():
        return
    from alembic import command  # noqa: PLC0415

    config, script = _config(), script_of_the_steps()
    config.attributes["connection"] = connection
    if current is None and (tables := sa.inspect(connection).get_table_names()):
        raise StartupError(f"It is a database of something else (it has a table {tables[0]!r}).")
    if current is not None and current not in {step.revision for step in script.walk_revisions()}:
        raise SchemaTooNewError(
            f"It was written by a newer version of oneshot (schema {current}; "
            f"this version knows {script.get_current_head()})."
        )
    command.upgrade(config, target)


def latest() -> str:
    """The revision of the last step, taken from the file names, such as `r0005_tombstones.py`."""
    return max(file.name[1:5] for file in (_FOLDER / "versions").glob("r[0-9]*.py"))


def _revision(connection: sa.Connection) -> str | None:
    """The schema's revision as recorded by Alembic; None in a new database."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    found: str | None = connection.execute(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608
    return found
