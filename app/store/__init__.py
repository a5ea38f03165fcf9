"""The durable truth: galleries of labelled images in a database."""

from app.store.base import (
    Changes,
    ClassPage,
    ClassRecord,
    EnrollOutcome,
    GalleryChanges,
    GalleryInfo,
    GalleryRecord,
    NewSupport,
    OnConflict,
    Store,
    Support,
)
from app.store.sql import SqlStore

__all__ = [
    "Changes",
    "ClassPage",
    "ClassRecord",
    "EnrollOutcome",
    "GalleryChanges",
    "GalleryInfo",
    "GalleryRecord",
    "NewSupport",
    "OnConflict",
    "SqlStore",
    "Store",
    "Support",
]
