"""Draw the images that the guides use: ten symbols by one hand, the same by another, and a stranger.

    python examples/symbols.py images

makes images/known/<name>.png, images/new/<name>.png and images/stranger.png, the same ones each time.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

Stroke = list[tuple[float, float]]

#: Strokes on a square of side 10; (0, 0) is the upper left corner.
SYMBOLS: dict[str, list[Stroke]] = {
    "arrow": [[(1, 5), (9, 5)], [(6, 2), (9, 5), (6, 8)]],
    "cross": [[(5, 1), (5, 9)], [(2, 4), (8, 4)]],
    "fork": [[(5, 9), (5, 4)], [(2, 1), (2, 4), (8, 4), (8, 1)], [(5, 4), (5, 1)]],
    "hourglass": [[(2, 1), (8, 1), (2, 9), (8, 9), (2, 1)]],
    "house": [[(2, 9), (2, 4), (5, 1), (8, 4), (8, 9), (2, 9)]],
    "ladder": [[(3, 1), (3, 9)], [(7, 1), (7, 9)], [(3, 3), (7, 3)], [(3, 6), (7, 6)]],
    "lightning": [[(6, 1), (3, 5), (7, 5), (4, 9)]],
    "spiral": [[(5, 5), (6, 5), (6, 6), (4, 6), (4, 3), (8, 3), (8, 8), (2, 8), (2, 1), (9, 1)]],
    "square": [[(2, 2), (8, 2), (8, 8), (2, 8), (2, 2)]],
    "triangle": [[(5, 1), (9, 8), (1, 8), (5, 1)]],
}
STRANGER: list[Stroke] = [[(1, 2), (3, 9), (5, 2), (7, 9), (9, 2)], [(1, 5), (9, 5)], [(1, 7), (9, 7)]]


def draw(strokes: list[Stroke], hand: int, size: int = 105) -> Image.Image:
    """Draw black on white, with the small errors that the writer of this number makes."""
    error = random.Random(hand)
    scale = size / 12
    image = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [((x + 1 + error.gauss(0, 0.2)) * scale, (y + 1 + error.gauss(0, 0.2)) * scale) for x, y in stroke]
        pen.line(points, fill=0, width=3, joint="curve")
    return image


def write(folder: Path) -> None:
    """Write all images."""
    for hand, place in enumerate(("known", "new")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number, (name, strokes) in enumerate(SYMBOLS.items()):
            draw(strokes, 100 * hand + number).save(folder / place / f"{name}.png")
    draw(STRANGER, 1).save(folder / "stranger.png")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "images"))
