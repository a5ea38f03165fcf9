"""A small synthetic Omniglot in the official layout."""

from __future__ import annotations

import zipfile
from pathlib import Path

from testing.factories import draw_character, encode

ALPHABETS = {"Alpha": 24, "Beta": 22, "Gamma": 21}
DRAWERS = 6


def write_tree(root: Path, part: str = "background", alphabets: dict[str, int] = ALPHABETS) -> Path:
    """Write ``images_<part>`` under ``root`` and return ``root``."""
    number = 0
    for alphabet, n_characters in alphabets.items():
        for character in range(1, n_characters + 1):
            number += 1
            folder = root / f"images_{part}" / alphabet / f"character{character:02d}"
            folder.mkdir(parents=True)
            for drawer in range(1, DRAWERS + 1):
                image = draw_character(number, size=35, jitter=1.0, jitter_seed=1000 * number + drawer)
                (folder / f"{number:04d}_{drawer:02d}.png").write_bytes(encode(image.convert("1")))
    return root


def zip_tree(folder: Path) -> Path:
    """Pack ``folder`` as ``folder.zip`` next to it."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return folder.with_suffix(".zip")


TINY_RECIPE = """
name = "tiny"
seed = 3
similarity = "{similarity}"
validate_every = 30

[data]
held_out = ["Gamma"]
rotations = true

[preprocess]
size = 20

[network]
kind = "conv"
width = 8
depth = 2
dim = 16

[augment]
rotation = 10
scale = 0.1
shear = 0.1
translation = 0.05
elastic = 0.01
gamma = 0.2

[sampler]
classes = 12
images = 2

[[objective]]
kind = "{objective}"

[optimizer]
steps = 12
learning_rate = 0.003
ema = 0.9
"""
"""A recipe that trains in a second; fill in ``similarity`` and ``objective``."""
