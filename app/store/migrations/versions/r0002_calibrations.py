"""Calibrations that were fitted to a gallery's own images."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "calibrations",
        sa.Column("gallery_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("gallery_id", name="pk_calibrations"),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name="fk_calibrations_gallery_id", ondelete="CASCADE"
        ),
    )
