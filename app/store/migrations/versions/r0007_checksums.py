"""Checksums of images and vectors. Older rows have none until an inspection of the store adds them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns; no row is changed."""
    for table in ("supports", "images", "embeddings"):
        op.add_column(table, sa.Column("checksum", _NUMBER, nullable=True))
