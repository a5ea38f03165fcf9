"""Draw a small set of images to train on: three alphabets of made-up characters, each character by several hands.

    python examples/alphabets.py datasets

makes datasets/images_background/<alphabet>/<character>/<number>_<hand>.png, the layout that `oneshot-train fit` reads.
Far too small for a good model; enough to see each step work.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

ALPHABETS = ("Anra", "Belt", "Cuso")
CHARACTERS = 20
HANDS = 6
SIZE = 105


def draw(character: random.Random, hand: random.Random) -> Image.Image:
    """One character, as one hand draws it."""
    image = Image.new("L", (SIZE, SIZE), 255)
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        points = [(character.uniform(0.15, 0.85), character.uniform(0.15, 0.85)) for _ in range(3)]
        drawn = [((x + hand.gauss(0, 0.02)) * SIZE, (y + hand.gauss(0, 0.02)) * SIZE) for x, y in points]
        pen.line(drawn, fill=0, width=3, joint="curve")
    return image


def write(folder: Path) -> None:
    """Write all images."""
    for alphabet in ALPHABETS:
        for number in range(1, CHARACTERS + 1):
            place = folder / "images_background" / alphabet / f"character{number:02}"
            place.mkdir(parents=True, exist_ok=True)
            for hand in range(1, HANDS + 1):
                image = draw(random.Random(f"{alphabet}{number}"), random.Random(f"{alphabet}{number}{hand}"))
                image.save(place / f"{number:04}_{hand:02}.png")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "datasets"))
