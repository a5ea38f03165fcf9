"""Receipts: answers to requests with an Idempotency-Key, so that a repeated request is not done twice."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "receipts",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_receipts"),
        sa.UniqueConstraint("key", name="uq_receipts_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_receipts_at", "receipts", ["at"])
