"""The Omniglot reader, for the official folders or zip files, and the official download.

Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning through probabilistic program induction",
Science 350 (2015): 50 alphabets, 1,623 characters, 20 drawers each.
"""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from PIL import Image

from model.images import ImageError, decode_image
from training.data.labelled import DatasetError, LabelledImages

Part = Literal["background", "evaluation"]

OFFICIAL_SITE: Final = "https://github.com/brendenlake/omniglot/raw/master/python"
OFFICIAL_MD5: Final = {
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}
RUNS: Final = 20


@dataclass(frozen=True)
class Run:
    """One official one-shot run: ``supports`` of 20 classes, ``queries``, and each query's index into supports."""

    name: str
    supports: tuple[Image.Image, ...]
    queries: tuple[Image.Image, ...]
    answers: tuple[int, ...]


def read_omniglot(root: Path, part: Part) -> LabelledImages:
    """Read ``images_<part>`` or ``images_<part>.zip`` in ``root``, or in its sub-folder ``omniglot``.

    Raises:
        DatasetError: neither exists, or a file in it is not an image in the official layout.
    """
    name = f"images_{part}"
    images: list[Image.Image] = []
    classes: list[int] = []
    sources: list[int] = []
    class_numbers: dict[tuple[str, str], int] = {}
    alphabets: dict[str, int] = {}
    for path, data in read_files(root, name):
        alphabet, character, drawer = _place(path)
        alphabets.setdefault(alphabet, len(alphabets))
        images.append(_decode(path, data))
        classes.append(class_numbers.setdefault((alphabet, character), len(class_numbers)))
        sources.append(drawer)
    if not images:
        raise DatasetError(f"{name} in {root} holds no image")
    return LabelledImages(
        images=images,
        classes=classes,
        sources=sources,
        class_names=[f"{alphabet}/{character}" for alphabet, character in class_numbers],
        groups=[alphabets[alphabet] for alphabet, _ in class_numbers],
        group_names=list(alphabets),
    )


def read_runs(root: Path) -> list[Run]:
    """Read the 20 official one-shot runs from ``all_runs`` or ``all_runs.zip`` in ``root`` or ``root/omniglot``.

    Raises:
        DatasetError: the runs are missing or incomplete.
    """
    files = dict(read_files(root, "all_runs", suffixes=(".png", ".txt")))
    folders = sorted({path.parts[-2] for path in files if path.name == "class_labels.txt"})
    if len(folders) != RUNS:
        raise DatasetError(f"all_runs in {root} holds {len(folders)} runs, not {RUNS}")
    by_tail = {str(PurePosixPath(*_run_tail(path))): data for path, data in files.items()}
    return [_read_run(folder, lambda tail: by_tail[tail]) for folder in folders]


def _run_tail(path: PurePosixPath) -> tuple[str, ...]:
    start = next((index for index, part in enumerate(path.parts) if part.startswith("run")), 0)
    return path.parts[start:]


def _read_run(name: str, read: Callable[[str], bytes]) -> Run:
    lines = read(f"{name}/class_labels.txt").decode().split("\n")
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    support_names = sorted(support for _, support in pairs)

    def image(path: str) -> Image.Image:
        return _decode(PurePosixPath(path), read(path))

    return Run(
        name=name,
        supports=tuple(image(support) for support in support_names),
        queries=tuple(image(query) for query, _ in pairs),
        answers=tuple(support_names.index(support) for _, support in pairs),
    )


def read_files(root: Path, name: str, suffixes: tuple[str, ...] = (".png",)) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield path and content, sorted by path, from the folder ``name`` or the file ``name.zip``.

    Raises:
        DatasetError: neither is in ``root`` or in its sub-folder ``omniglot``, or the zip file is broken.
    """
    for base in (root, root / "omniglot"):
        if (base / name).is_dir():
            for file in sorted((base / name).rglob("*")):
                if file.suffix in suffixes:
                    yield PurePosixPath(file.relative_to(base).as_posix()), file.read_bytes()
            return
        if (base / f"{name}.zip").is_file():
            yield from _zipped(base / f"{name}.zip", suffixes)
            return
    raise DatasetError(f"neither {name}/ nor {name}.zip is in {root} or in {root / 'omniglot'}")


def _zipped(file: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(suffixes):
                    yield PurePosixPath(name), archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def _place(path: PurePosixPath) -> tuple[str, str, int]:
    """Return alphabet, character and drawer from a path such as ``images_x/Alphabet/character01/0001_07.png``."""
    try:
        return path.parts[-3], path.parts[-2], int(path.stem.split("_")[1])
    except (IndexError, ValueError) as error:
        raise DatasetError(f"{path} is not in Omniglot's layout (alphabet/character/number_drawer.png)") from error


def _decode(path: PurePosixPath, data: bytes) -> Image.Image:
    try:
        return decode_image(data)
    except ImageError as error:
        raise DatasetError(f"{path}: {error}") from error


def download_omniglot(folder: Path, site: str = OFFICIAL_SITE) -> list[Path]:
    """Download the official archives into ``folder`` and return their paths; a complete archive is not fetched again.

    Raises:
        DatasetError: the site cannot be reached, or a file does not have the published MD5.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_download(f"{site}/{name}", folder / name, md5) for name, md5 in OFFICIAL_MD5.items()]


def _download(url: str, file: Path, md5: str) -> Path:
    if file.is_file() and _md5(file.read_bytes()) == md5:
        return file
    buffer = io.BytesIO()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the caller names the site
            buffer.write(answer.read())
    except (urllib.error.URLError, TimeoutError) as error:
        raise DatasetError(f"{url} cannot be downloaded: {error}") from error
    if _md5(buffer.getvalue()) != md5:
        raise DatasetError(f"{url} does not have the published MD5 {md5}; nothing was kept")
    part = file.with_suffix(".part")
    part.write_bytes(buffer.getvalue())
    return part.replace(file)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
