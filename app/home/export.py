"""Exports a gallery as a folder of images: one sub-folder per class, and `labels.json` with their labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from app.errors import ConflictError, ImageNotFoundError
from app.store import Store
from model.folders import LABELS_FILE
from model.images import MEDIA_TYPES

_LONGEST = 120
_PAGE = 500
_SUFFIX = {media_type: f".{kind.lower()}" for kind, media_type in MEDIA_TYPES.items()}


def folder_name(label: str) -> str:
    """A folder name for the label that is valid on any file system and different for each label."""
    name = quote(label, safe=" ()+,=@_-").replace(".", "%2E")
    lowered = name.lower() != name  # file systems that ignore case must not merge classes
    if len(name) <= _LONGEST and not lowered and not name.startswith(" ") and not name.endswith(" "):
        return name
    return f"{name[:40].strip()}~{sha256(label.encode()).hexdigest()[:16]}"


def export_gallery(store: Store, gallery: str, folder: Path, tick: Callable[[], None] = lambda: None) -> int:
    """Write all images of the gallery. Return their number. Raises GalleryNotFoundError, ConflictError."""
    if folder.exists() and any(folder.iterdir()):
        raise ConflictError(f"{folder} is not empty.")
    folder.mkdir(parents=True, exist_ok=True)
    labels: dict[str, str] = {}
    count, after = 0, None
    while True:
        page = store.list_classes(gallery, _PAGE, after)
        for record in page.items:
            labels[folder_name(record.label)] = record.label
            count += _export_class(store, gallery, record.label, folder / folder_name(record.label))
            tick()
        after = page.next_after
        if after is None:
            break
    (folder / LABELS_FILE).write_text(json.dumps(labels, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return count


def _export_class(store: Store, gallery: str, label: str, folder: Path) -> int:
    folder.mkdir()
    shots = store.get_class(gallery, label).supports
    for shot in range(shots):
        try:
            image, media_type = store.read_image(gallery, label, shot)
        except ImageNotFoundError as error:
            raise ConflictError(f"{error.detail} A gallery without its images can't be exported.") from error
        (folder / f"{shot:06}{_SUFFIX.get(media_type, '')}").write_bytes(image)
    return shots
