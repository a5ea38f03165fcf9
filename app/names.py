"""Validation of labels and gallery names, and their encoding in URLs."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from oneshot_client import wire

DEFAULT_GALLERY: Final = wire.DEFAULT_GALLERY
MAX_LABEL_LENGTH = 256
GALLERY_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

#: Control characters, line and paragraph separators.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Zl", "Zp"})


def clean_label(text: str) -> str:
    """Return the label as stored: NFC, without surrounding white space.

    Raises ValueError when the result is empty, longer than MAX_LABEL_LENGTH characters, contains control characters,
    is not valid Unicode, or is ``.`` or ``..``. Clients remove those two from URLs before sending, so such a class
    could not be addressed.
    """
    label = _clean(text, "a label")
    if label in {".", ".."}:
        raise ValueError("a label must not be '.' or '..'")
    return label


def clean_search(text: str) -> str:
    """Return a part of a label, cleaned as labels are. Raises ValueError when no label could contain it."""
    return _clean(text, "what is searched for")


def _clean(text: str, what: str) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    if not clean:
        raise ValueError(f"{what} must have at least 1 character")
    if len(clean) > MAX_LABEL_LENGTH:
        raise ValueError(f"{what} may have at most {MAX_LABEL_LENGTH} characters, this has {len(clean)}")
    if any("\ud800" <= each <= "\udfff" for each in clean):
        raise ValueError(f"{what} must be Unicode text; this has bytes of another encoding than UTF-8")
    # most labels are printable throughout: one check settles it
    if not clean.isprintable() and any(unicodedata.category(each) in _FORBIDDEN_CATEGORIES for each in clean):
        raise ValueError(f"{what} must not contain control characters or line breaks")
    return clean


def clean_gallery(text: str) -> str:
    """Return the name unchanged. Raises ValueError when it is not a valid gallery name."""
    if not re.fullmatch(GALLERY_PATTERN, text, re.ASCII):
        raise ValueError(
            "a gallery's name is 1 to 64 letters, digits, '.', '_' and '-', and starts with a letter or digit"
        )
    return text


def label_from_path(encoded: str) -> str:
    """Decode a label from a percent-encoded path segment. Raises ValueError as `clean_label` does."""
    try:
        return clean_label(unquote(encoded, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError("a label in a path must be percent-encoded UTF-8") from None


def class_path(label: str, gallery: str) -> str:
    """The path of a class: its label as one percent-encoded segment, the gallery as a query parameter."""
    return f"{wire.class_path(label)}{_gallery_query(gallery)}"


def image_path(label: str, gallery: str) -> str:
    """The path of a class's first image."""
    return f"{wire.class_path(label)}/image{_gallery_query(gallery)}"


def _gallery_query(gallery: str) -> str:
    return "" if gallery == DEFAULT_GALLERY else f"?gallery={gallery}"


Label = Annotated[str, AfterValidator(clean_label)]
SearchText = Annotated[str, AfterValidator(clean_search)]
GalleryName = Annotated[
    str, AfterValidator(clean_gallery), Field(json_schema_extra={"pattern": GALLERY_PATTERN, "maxLength": 64})
]
