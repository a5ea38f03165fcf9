"""The durable store: galleries of labelled images in a database."""

from app.store.base import (
    Changes,
    ClassPage,
    ClassRecord,
    EnrollOutcome,
    GalleryChanges,
    GalleryInfo,
    GalleryRecord,
    NewSupport,
    Once,
    OnConflict,
    Store,
    Support,
)
from app.store.sql import STORE_FILE, SqlStore, open_store

__all__ = [
    "STORE_FILE",
    "Changes",
    "ClassPage",
    "ClassRecord",
    "EnrollOutcome",
    "GalleryChanges",
    "GalleryInfo",
    "GalleryRecord",
    "NewSupport",
    "OnConflict",
    "Once",
    "SqlStore",
    "Store",
    "Support",
    "open_store",
]
