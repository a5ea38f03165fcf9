"""Facts about the store as a whole, and embeddings by other models than the one that a shot was enrolled with."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, and give the store an identity of its own."""
    meta = op.create_table(
        "meta",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "embeddings",
        sa.Column("support_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("model_digest", sa.Text, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("support_id", "model_digest", name="pk_embeddings"),
        sa.ForeignKeyConstraint(["support_id"], ["supports.id"], name="fk_embeddings_support_id", ondelete="CASCADE"),
    )
    op.bulk_insert(meta, [{"key": "store_id", "value": secrets.token_hex(16)}])
