"""The first schema: galleries of classes, their shots with image and embedding, and the change log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "galleries",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("model_digest", sa.Text, nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_galleries"),
        sa.UniqueConstraint("name", name="uq_galleries_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "classes",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("gallery_id", _NUMBER, nullable=False),
        sa.Column("label", _NAME, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_classes"),
        sa.UniqueConstraint("gallery_id", "label", name="uq_classes_gallery_id_label"),
        sa.ForeignKeyConstraint(["gallery_id"], ["galleries.id"], name="fk_classes_gallery_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "supports",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("class_id", _NUMBER, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.Column("model_digest", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_supports"),
        sa.ForeignKeyConstraint(["class_id"], ["classes.id"], name="fk_supports_class_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    _more()


def _more() -> None:
    op.create_index("ix_supports_class_id", "supports", ["class_id"])
    op.create_table(
        "images",
        sa.Column("support_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("support_id", name="pk_images"),
        sa.ForeignKeyConstraint(["support_id"], ["supports.id"], name="fk_images_support_id", ondelete="CASCADE"),
    )
    op.create_table(
        "changes",
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("gallery_id", _NUMBER, nullable=False),
        sa.Column("class_id", _NUMBER, nullable=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_gallery_id_class_id", "changes", ["gallery_id", "class_id"])
