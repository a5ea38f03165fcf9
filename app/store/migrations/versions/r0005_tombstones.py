"""Marks the entries of the change log that are about deletions, so that the oldest of them can be dropped."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table, and fill it from the log."""
    op.create_table(
        "tombstones",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_tombstones"),
    )
    op.execute(
        """
        INSERT INTO tombstones (seq) SELECT seq FROM changes
        WHERE class_id IS NULL AND gallery_id NOT IN (SELECT id FROM galleries)
        OR class_id IS NOT NULL AND class_id NOT IN (SELECT id FROM classes)
        """
    )
