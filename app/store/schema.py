"""The tables. Migrations create them; a test compares their result with these definitions."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time. SQLite has no time zones, so every database stores naive UTC. Values are aware UTC."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn an aware time into naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Mark the stored time as UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


# Every constraint has a name, so that a later migration can name it.
metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


# SQLite's integers have 64 bits anyway, and only its type INTEGER supports AUTOINCREMENT.
_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Ordered by code point in every database, whatever its locale. SQLite does so by default.
_Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _parent(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")


def _checksum() -> sa.Column[int | None]:
    """The CRC-32 of the row's image or vector; NULL in rows that are older than checksums."""
    return sa.Column("checksum", _Number, nullable=True)


# AUTOINCREMENT everywhere: ids are never reused, so a view that has not seen a deletion yet can't take a new row for
# the deleted one.

galleries = sa.Table(
    "galleries",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("name", _Name, nullable=False, unique=True),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("dim", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

# A gallery without a row for its present model uses the model's own calibration.
calibrations = sa.Table(
    "calibrations",
    metadata,
    sa.Column("gallery_id", _Number, _parent("galleries.id"), primary_key=True, autoincrement=False),
    sa.Column("model_digest", sa.Text, primary_key=True),  # fitted to the vectors of this model
    sa.Column("content", sa.Text, nullable=False),  # model.calibration.Calibration as JSON
)

classes = sa.Table(
    "classes",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("gallery_id", _Number, _parent("galleries.id"), nullable=False),
    sa.Column("label", _Name, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("gallery_id", "label"),
    sqlite_autoincrement=True,
)

supports = sa.Table(
    "supports",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("class_id", _Number, _parent("classes.id"), nullable=False, index=True),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("embedding", sa.LargeBinary, nullable=False),  # galleries.dim float32 values, little-endian
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    _checksum(),
    sqlite_autoincrement=True,
)

# Images have their own table, so that a view built from all embeddings does not read all images.
images = sa.Table(
    "images",
    metadata,
    sa.Column("support_id", _Number, _parent("supports.id"), primary_key=True, autoincrement=False),
    sa.Column("image", sa.LargeBinary, nullable=False),
    _checksum(),
)

# Vectors of shots by other models than the one they were enrolled with: by that of a model change in progress, or by
# the previous one, kept for going back. `galleries.model_digest` says which ones are in use.
embeddings = sa.Table(
    "embeddings",
    metadata,
    sa.Column("support_id", _Number, _parent("supports.id"), primary_key=True, autoincrement=False),
    sa.Column("model_digest", sa.Text, primary_key=True),
    sa.Column("embedding", sa.LargeBinary, nullable=False),
    _checksum(),
)

# Facts about the store as a whole: `store_id` (random, new after a restore), `model` and `previous_model` (digests),
# `pruned` (number of the latest dropped tombstone), `held <gallery_id>` (the digest of the model that a gallery changes
# to, and what holds it up).
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# API keys. Only the SHA-256 of a key's secret is stored. `scopes` and `galleries` are separated by blanks; NULL in
# `galleries` means all. No foreign keys: a key may be created before its gallery.
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("secret_sha256", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("galleries", sa.Text, nullable=True),
    sa.Column("rate", sa.Text, nullable=True),
    sa.Column("concurrency", sa.Integer, nullable=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=True),
    sa.Column("revoked_at", UtcDateTime, nullable=True),
)

# The change log. No foreign keys: an entry outlives its subject. Entries without a class_id are about the gallery.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("seq", _Number, primary_key=True),
    sa.Column("gallery_id", _Number, nullable=False),
    sa.Column("class_id", _Number, nullable=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Index(None, "gallery_id", "class_id"),
    sqlite_autoincrement=True,
)

# The entries of the change log about deleted classes and galleries. Only the latest are kept.
tombstones = sa.Table(
    "tombstones",
    metadata,
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
)

# Answers to requests with an Idempotency-Key, the latest ones (see `app.store.receipts`). `key` and `request` are
# SHA-256 digests; `seq` is the number of the last log entry of that request.
receipts = sa.Table(
    "receipts",
    metadata,
    sa.Column("number", _Number, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("seq", _Number, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
    sqlite_autoincrement=True,
)
