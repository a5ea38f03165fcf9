"""A million different characters: Omniglot's drawings in eight orientations, distorted as in training, embedded once.

`python -m benchmarks.characters FOLDER --count 1000000` fills FOLDER with the vectors; a later call goes on where an
earlier one stopped. `ONESHOT_DATASETS` names the folder with `omniglot/`.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model import DEFAULT_ARTIFACT
from model.artifact import Artifact, load_artifact, read_forms
from model.distances import Vectors
from model.embedder import Embedder, choose_form
from model.manifest import Manifest
from model.preprocess import Preprocess
from training.augment import Augment
from training.data.labelled import prepare_pixels
from training.data.omniglot import read_omniglot
from training.recipe import load_recipe

ORIENTATIONS = 8  # four quarter turns, each also mirrored
_BLOCK = 500


class Characters:
    """Characters by number; the distortion depends on the number and on `take`.

    The first 32,460 x 8 numbers are different drawings or orientations, in random order. After that they repeat with
    other distortions.
    """

    def __init__(self, root: Path, manifest: Manifest) -> None:
        preprocess = Preprocess(manifest.preprocess)
        parts = [read_omniglot(root, part).images for part in ("background", "evaluation")]
        self._drawings = torch.cat([prepare_pixels(images, preprocess) for images in parts])
        self._order = torch.randperm(len(self._drawings) * ORIENTATIONS, generator=torch.Generator().manual_seed(0))
        self._augment = Augment(load_recipe("omniglot").augment)

    def draw(self, block: int, take: int = 0) -> Vectors:
        """Return characters 500 * block to 500 * block + 499, shape (500, channels, side, side)."""
        numbers = torch.arange(block * _BLOCK, (block + 1) * _BLOCK) % len(self._order)
        chosen, orientations = self._order[numbers] // ORIENTATIONS, self._order[numbers] % ORIENTATIONS
        images = self._drawings[chosen].float() / 255
        for orientation in range(ORIENTATIONS):
            images[orientations == orientation] = _turned(images[orientations == orientation], orientation)
        generator = torch.Generator().manual_seed(take * 1_000_000_007 + block)
        distorted: Vectors = self._augment(images, generator).numpy()
        return distorted

    def pictures(self, numbers: Sequence[int], take: int) -> list[bytes]:
        """Return the characters with these numbers as PNG files, black on white."""
        drawn = lru_cache(maxsize=2)(self.draw)
        return [_png(drawn(number // _BLOCK, take)[number % _BLOCK]) for number in numbers]


def _turned(images: Tensor, orientation: int) -> Tensor:
    turned = torch.rot90(images, orientation % 4, (2, 3))
    return turned.flip(3) if orientation >= 4 else turned


def _png(character: Vectors) -> bytes:
    pixels = 255 - np.rint(character[0] * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def served_artifact(model: Path) -> Artifact:
    """Return the form of the artefact that a new service would run on this machine's CPU."""
    base, int8 = read_forms(model)
    return load_artifact(choose_form(base, int8, device="cpu", engine="auto"))


def served_embedder(model: Path) -> Embedder:
    """Return the embedder of such a service, with one thread."""
    return Embedder(served_artifact(model), "cpu", 1)


def embedded(folder: Path, count: int, characters: Characters, embedder: Embedder) -> Vectors:
    """Return the vectors of the first `count` characters as a memory map; missing ones are embedded into `folder`.

    Raises ValueError if the folder has vectors of another model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = folder / "model.txt"
    if not facts.exists():
        facts.write_text(embedder.manifest.digest)
    if facts.read_text() != embedder.manifest.digest:
        raise ValueError(f"{folder} has vectors of another model")
    row = 4 * embedder.dim
    with (folder / "vectors.f32").open("ab") as file:
        file.truncate(file.tell() // (row * _BLOCK) * (row * _BLOCK))
        first, last = file.tell() // (row * _BLOCK), -(-count // _BLOCK)
        began = time.perf_counter()
        for block in range(first, last):
            file.write(embedder.embed(characters.draw(block)).astype("<f4").tobytes())
            if block % 100 == 99:
                rate = (block + 1 - first) * _BLOCK / (time.perf_counter() - began)
                print(f"{(block + 1) * _BLOCK:,} characters embedded, {rate:,.0f}/s", flush=True)
    return np.memmap(folder / "vectors.f32", np.float32, "r").reshape(-1, embedder.dim)[:count]


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="characters", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--model", type=Path, default=DEFAULT_ARTIFACT)
    options = parser.parse_args(argv)
    embedder = served_embedder(options.model)
    characters = Characters(Path(os.environ["ONESHOT_DATASETS"]), embedder.manifest)
    embedded(options.folder, options.count, characters, embedder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
