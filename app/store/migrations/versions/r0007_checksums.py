"""Checksums of images and vectors. What was stored before has none until a look at all of the store adds it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, which changes no row."""
    for table in ("supports", "images", "embeddings"):
        op.add_column(table, sa.Column("checksum", _NUMBER, nullable=True))
