"""The test material: a gallery and queries from Omniglot, and one-megapixel photographs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.omniglot import read_omniglot

CLASSES = 964
"""The characters of Omniglot's background alphabets."""
QUERIES = 256
PHOTOS = 32
_PHOTO_SIDE = (1152, 896)
"""1.03 megapixels."""


@dataclass(frozen=True)
class Material:
    """Folders: ``gallery`` has one PNG per class, ``queries`` PNGs by other drawers, ``photos`` JPEGs."""

    gallery: Path
    queries: Path
    photos: Path


def make(datasets: Path, folder: Path) -> Material:
    """Write the material into ``folder``, the same files each time."""
    material = Material(folder / "gallery", folder / "queries", folder / "photos")
    for each in (material.gallery, material.queries, material.photos):
        each.mkdir(parents=True, exist_ok=True)
    images, rng = read_omniglot(datasets, "background"), np.random.default_rng(0)
    members: dict[int, list[int]] = {}
    for place, label in enumerate(images.classes):
        members.setdefault(label, []).append(place)
    for label, places in members.items():
        images.images[places[0]].save(material.gallery / f"class-{label:04}.png")
    for number, label in enumerate(rng.permutation(len(members))[:QUERIES].tolist()):
        images.images[members[label][1 + number % 19]].save(material.queries / f"{number:03}-class-{label:04}.png")
    for number in range(PHOTOS):
        (material.photos / f"{number:02}.jpg").write_bytes(photo(rng))
    return material


def photo(rng: np.random.Generator) -> bytes:
    """A JPEG file of a synthetic scene: a sign on texture with a 1/f² power spectrum, as in photographs."""
    width, height = _PHOTO_SIDE
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    layers = []
    for _ in range(3):
        noise = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
        texture = np.fft.irfft2(noise / frequency, s=(height, width))
        texture = (texture - texture.mean()) / texture.std()
        layers.append(np.clip(150 + 35 * texture, 0, 255))
    pixels = np.stack(layers, axis=-1).astype(np.uint8)
    top, left = int(rng.integers(100, height - 400)), int(rng.integers(100, width - 400))
    pixels[top : top + 300, left + 130 : left + 170] = 15
    pixels[top + 130 : top + 170, left : left + 300] = 15
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
