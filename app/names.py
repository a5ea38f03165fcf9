"""What a label and a gallery may be called, and how a label travels in a URL."""

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

#: Control characters, line and paragraph separators: none of them can be read or typed.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Zl", "Zp"})


def clean_label(text: str) -> str:
    """The label as it is stored: NFC, without white space around it.

    Raises ValueError when it is then empty, longer than MAX_LABEL_LENGTH characters, holds control characters, or is
    ``.`` or ``..`` (clients remove these from URLs before they send them, so such a class could never be addressed).
    """
    label = _clean(text, "a label")
    if label in {".", ".."}:
        raise ValueError("a label must not be '.' or '..'")
    return label


def clean_search(text: str) -> str:
    """Part of a label, as labels are written. Raises ValueError when no label could have it."""
    return _clean(text, "what is searched for")


def _clean(text: str, what: str) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    if not clean:
        raise ValueError(f"{what} must have at least 1 character")
    if len(clean) > MAX_LABEL_LENGTH:
        raise ValueError(f"{what} may have at most {MAX_LABEL_LENGTH} characters, this has {len(clean)}")
    if any("\ud800" <= each <= "\udfff" for each in clean):
        raise ValueError(f"{what} must be Unicode text; this has bytes of another encoding than UTF-8")
    # most labels have nothing but what can be printed, which is told in one go
    if not clean.isprintable() and any(unicodedata.category(each) in _FORBIDDEN_CATEGORIES for each in clean):
        raise ValueError(f"{what} must not contain control characters or line breaks")
    return clean


def clean_gallery(text: str) -> str:
    """The name of a gallery, as it is. Raises ValueError when it is not one."""
    if not re.fullmatch(GALLERY_PATTERN, text, re.ASCII):
        raise ValueError(
            "a gallery's name is 1 to 64 letters, digits, '.', '_' and '-', and starts with a letter or digit"
        )
    return text


def label_from_path(encoded: str) -> str:
    """The label of a still percent-encoded piece of a path. Raises ValueError as `clean_label` does."""
    try:
        return clean_label(unquote(encoded, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError("a label in a path must be percent-encoded UTF-8") from None


def class_path(label: str, gallery: str) -> str:
    """The address of a class: its label as one percent-encoded segment, the gallery as a parameter."""
    return f"{wire.class_path(label)}{_gallery_query(gallery)}"


def image_path(label: str, gallery: str) -> str:
    """The address of a class's first image."""
    return f"{wire.class_path(label)}/image{_gallery_query(gallery)}"


def _gallery_query(gallery: str) -> str:
    return "" if gallery == DEFAULT_GALLERY else f"?gallery={gallery}"


Label = Annotated[str, AfterValidator(clean_label)]
SearchText = Annotated[str, AfterValidator(clean_search)]
GalleryName = Annotated[
    str, AfterValidator(clean_gallery), Field(json_schema_extra={"pattern": GALLERY_PATTERN, "maxLength": 64})
]
