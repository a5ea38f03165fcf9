"""Finds the images in folders and under object-store prefixes, and reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from pyarrow import ArrowInvalid
from pyarrow.fs import FileSelector, FileSystem, FileType

from app.image_folders import find_images
from model.folders import LABELS_FILE, exported_labels, is_image, label_of


@dataclass(frozen=True)
class Source:
    """A class and its images: absolute paths, or addresses such as `s3://bucket/a.png`."""

    label: str
    files: tuple[str, ...]


def find_sources(paths: Sequence[str], label: str | None = None) -> tuple[list[Source], list[str]]:
    """Find all classes with all their images, in order, and the files that are skipped.

    A class is never split, however many images it has. Raises OSError for a missing path, ValueError when there are no
    images.
    """
    files: dict[str, list[str]] = {}
    passed_over: list[str] = []
    for path in paths:
        for name, file in _of_prefix(path, label) if "://" in path else _of_folder(path, label):
            if name is None:
                passed_over.append(file)
            else:
                files.setdefault(name, []).append(file)
    if not files:
        raise ValueError(f"no image in {', '.join(paths)}")
    return [Source(name, tuple(each)) for name, each in files.items()], passed_over


def read(file: str) -> bytes:
    """Read one of these files. Raises OSError."""
    if "://" not in file:
        return Path(file).read_bytes()
    system, path = _open(file)
    with system.open_input_file(path) as stream:
        content: bytes = stream.read()
        return content


def _of_folder(path: str, label: str | None) -> list[tuple[str | None, str]]:
    found = find_images([Path(path)], label)
    images: list[tuple[str | None, str]] = [(item.label, str(item.file.resolve())) for item in found.items]
    return [*images, *((None, str(file)) for file in found.passed_over)]


def _of_prefix(address: str, label: str | None) -> list[tuple[str | None, str]]:
    """All files under a prefix with their labels, None for files that are not images. Ray's own listing does not return
    the sub-folder of a file."""
    system, root = _open(address)
    scheme, query = address.partition("://")[0], address.partition("?")[2]

    def address_of(path: str) -> str:
        return f"{scheme}://{quote(path)}{query and '?'}{query}"

    info = system.get_file_info(root)
    if info.type == FileType.File:
        return [(label or label_of([info.base_name], {}), address)]
    found = system.get_file_info(FileSelector(root, recursive=True))
    inside = {each.path: PurePosixPath(each.path).relative_to(root).parts for each in found}
    labels_file = f"{root.rstrip('/')}/{LABELS_FILE}"
    labels: dict[str, str] = {}
    if labels_file in inside:
        labels = exported_labels(read(address_of(labels_file)), address_of(labels_file))
    return [
        ((label or label_of(inside[each.path], labels)) if is_image(inside[each.path]) else None, address_of(each.path))
        for each in sorted(found, key=lambda it: str(it.path))
        if each.type == FileType.File and each.path != labels_file
    ]


def _open(address: str) -> tuple[FileSystem, str]:
    try:
        system, path = FileSystem.from_uri(address)
    except ArrowInvalid as error:
        raise ValueError(f"{address}: {error}") from error
    return system, path
