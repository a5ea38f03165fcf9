"""The store's schema, step by step: one module in `versions/` for each change, applied when a store is opened.

Written steps are never edited; a change of `app.store.schema` comes with a new step (tests compare the two).
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import SchemaTooNewError, StartupError

_FOLDER = Path(__file__).parent


def script_of_the_steps() -> ScriptDirectory:
    """The steps as Alembic sees them."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def migrate(connection: sa.Connection, target: str = "head") -> None:
    """Bring the schema up to date inside the connection's open transaction, which must hold the write lock.

    Tests stop at an earlier `target`.

    Raises SchemaTooNewError for a schema that this version does not know, StartupError for a database that is not
    a store at all.
    """
    config = _config()
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is None and (tables := sa.inspect(connection).get_table_names()):
        raise StartupError(f"It is a database of something else (it has a table {tables[0]!r}).")
    if current is not None and current not in {step.revision for step in script.walk_revisions()}:
        raise SchemaTooNewError(
            f"It was written by a newer version of oneshot (schema {current}; "
            f"this version knows {script.get_current_head()})."
        )
    command.upgrade(config, target)
