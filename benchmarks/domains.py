"""One-shot recognition beyond handwriting, over HTTP: signs, logos, music symbols, cards, objects.

    python -m benchmarks.domains --model omniglot --model runs/symbols

Starts a service for each model and asks it about each set in the folder ONESHOT_DATASETS. Figures are the share of
queries whose nearest support is the right one, with the Wilson interval over queries; nothing was trained on these
classes. Where a set has clean templates they are the supports and all photographs are queries; else each trial draws
one photograph of each of 20 classes and another one of them. Strangers are asked of galleries of 30 photographs, at the
service's default rate.
"""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.omniglot_http import served, wilson_interval
from model.distances import Vectors
from oneshot_client import Client, RejectedError
from training.data.labelled import DatasetError
from training.report.origin import machine

SETS: Final = {
    "gtsrb": "GTSRB pictograms → photographs, 43-way",
    "flickrlogos27": "FlickrLogos clean → photographs, 14-way",
    "musicsymbols": "music symbols printed → handwritten, 32-way",
    "setcards": "SET cards photograph → photograph, 20-way",
    "caltech101": "Caltech-101 photograph → photograph, 20-way",
    "eth80": "ETH-80 photograph → photograph, 20-way",
}
STRANGERS: Final = ("setcards", "gtsrb")
N_WAY: Final = 20
TRIALS: Final = 2000
ENROLLED: Final = 30
ASKED: Final = 20
GALLERIES: Final = 10
_CHUNK: Final = 64
_TEMPLATES: Final = "_templates"


@dataclass(frozen=True)
class Images:
    """Image files by class, and the clean template of each class, if the set has any."""

    files: dict[str, list[bytes]]
    templates: dict[str, bytes]


@dataclass(frozen=True)
class Figure:
    """A share of ``n`` trials with its interval."""

    what: str
    share: float
    low: float
    high: float
    n: int


def read_set(datasets: Path, name: str) -> Images:
    """Read a set's zip file; templates of classes without photographs are left out.

    Raises:
        DatasetError: the file is missing or broken.
    """
    file = datasets / name / f"{name}.zip"
    files: dict[str, list[bytes]] = defaultdict(list)
    templates = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for path in map(PurePosixPath, sorted(archive.namelist())):
                if path.suffix not in {".png", ".jpg"}:
                    continue
                if path.parts[-2] == _TEMPLATES:
                    templates[path.stem] = archive.read(str(path))
                else:
                    files[path.parts[-2]].append(archive.read(str(path)))
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    return Images(dict(files), {label: data for label, data in templates.items() if label in files})


def embed(client: Client, images: list[bytes]) -> Vectors:
    """Return the vectors (n, dim) of images; a rejected (blank) image gets zeros, which never win a trial."""
    parts: list[list[list[float]] | list[None]] = []
    for at in range(0, len(images), _CHUNK):
        chunk = images[at : at + _CHUNK]
        try:
            parts.append(client.embed(chunk).embeddings)
        except RejectedError:
            parts += [_embed_one(client, image) for image in chunk]
    vectors = [vector for part in parts for vector in part]
    dim = next(len(vector) for vector in vectors if vector is not None)
    return np.array([[0.0] * dim if vector is None else vector for vector in vectors], np.float32)


def _embed_one(client: Client, image: bytes) -> list[list[float]] | list[None]:
    try:
        return client.embed([image]).embeddings
    except RejectedError:
        return [None]


def closed_set(client: Client, images: Images) -> tuple[int, int]:
    """Return the number of correct queries and of all queries."""
    labels = sorted(images.templates or images.files)
    vectors = [embed(client, images.files[label]) for label in labels]
    if images.templates:
        supports = embed(client, [images.templates[label] for label in labels])
        right = sum(int(_nearest(own, supports, number).sum()) for number, own in enumerate(vectors))
        return right, sum(map(len, vectors))
    return sum(_trials(vectors)), TRIALS


def _nearest(queries: Vectors, supports: Vectors, answer: int) -> npt.NDArray[np.bool_]:
    """Whether the support ``answer`` is nearer than every other to each query (n, dim); a tie is wrong."""
    near = queries @ supports.T
    others = np.delete(near, answer, axis=1)
    right: npt.NDArray[np.bool_] = near[:, answer] > others.max(1)
    return right


def _trials(vectors: list[Vectors]) -> Iterator[bool]:
    rng = np.random.default_rng(20)
    for _ in range(TRIALS):
        way = rng.permutation(len(vectors))[:N_WAY]
        picked = [rng.permutation(len(vectors[label]))[:2] for label in way]
        supports = np.stack([vectors[label][one] for label, (one, _) in zip(way, picked, strict=True)])
        answer = int(rng.integers(N_WAY))
        yield bool(_nearest(vectors[way[answer]][picked[answer][1]][None], supports, answer)[0])


def strangers(client: Client, images: Images) -> tuple[int, int]:
    """Return how many strangers, photographs of classes not in the gallery, were identified, and of how many."""
    rng = np.random.default_rng(20)
    labels = sorted(images.files)
    named = asked = 0
    for number in range(GALLERIES):
        order = rng.permutation(len(labels))
        enrolled, others = order[:ENROLLED], order[ENROLLED:]
        gallery = f"strangers-{number}"
        client.enroll_batch(
            [(labels[place], _any(images.files[labels[place]], rng)) for place in enrolled], gallery=gallery
        )
        for place in rng.choice(others, ASKED):
            named += _named(client, _any(images.files[labels[place]], rng), gallery)
            asked += 1
    return named, asked


def _named(client: Client, image: bytes, gallery: str) -> bool:
    try:
        return client.classify(image, gallery=gallery).label is not None
    except RejectedError:
        return False


def _any(files: list[bytes], rng: np.random.Generator) -> bytes:
    return files[int(rng.integers(len(files)))]


def measure(client: Client, datasets: Path) -> list[Figure]:
    """Measure a service on every set."""
    figures = []
    for name, what in SETS.items():
        images = read_set(datasets, name)
        right, n = closed_set(client, images)
        figures.append(Figure(what, right / n, *wilson_interval(right, n), n))
        if name in STRANGERS:
            named, n = strangers(client, images)
            strange = f"strangers named where 1 % is asked, {name}, galleries of {ENROLLED} photographs"
            figures.append(Figure(strange, named / n, *wilson_interval(named, n), n))
    return figures


def table(found: dict[str, list[Figure]]) -> str:
    """Return the figures of all models as a Markdown table."""
    models = list(found)
    lines = [f"| set | n | {' | '.join(models)} |", f"|---|---|{'---|' * len(models)}"]
    for rows in zip(*found.values(), strict=True):
        cells = [f"{100 * each.share:.1f} % ({100 * each.low:.1f} to {100 * each.high:.1f})" for each in rows]
        lines.append(f"| {rows[0].what} | {rows[0].n:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="a shipped model's name, or an artefact's folder")
    parser.add_argument("--data", type=Path, default=os.environ.get("ONESHOT_DATASETS", "datasets"))
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    found: dict[str, list[Figure]] = {}
    for model in options.model or ["omniglot"]:
        os.environ["ONESHOT_MODEL"] = model
        with served() as url, Client(url, timeout=120) as client:
            found[client.model().model] = measure(client, Path(options.data))
    print(table(found))
    print(f"\n95 % Wilson intervals; {machine()}, {datetime.now(UTC):%Y-%m-%d}.")
    if options.json:
        content = {model: [asdict(each) for each in rows] for model, rows in found.items()}
        options.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
