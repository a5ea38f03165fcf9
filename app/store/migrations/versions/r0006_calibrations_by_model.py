"""A gallery's calibration belongs to the model that it was fitted with, and is kept when the model changes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table again: SQLite can't change a primary key. There is at most one row per gallery."""
    kept = op.get_bind().execute(
        sa.text(
            """
            SELECT calibrations.gallery_id, galleries.model_digest, calibrations.content
            FROM calibrations JOIN galleries ON galleries.id = calibrations.gallery_id
            """
        )
    )
    rows = [dict(row) for row in kept.mappings()]
    op.drop_table("calibrations")
    table = op.create_table(
        "calibrations",
        sa.Column("gallery_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("model_digest", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("gallery_id", "model_digest", name="pk_calibrations"),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name="fk_calibrations_gallery_id", ondelete="CASCADE"
        ),
    )
    op.bulk_insert(table, rows)
