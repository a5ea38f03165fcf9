"""The shipped symbols model: it separates filled shapes, in colour and in grey, and matches each with itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from model import PRETRAINED
from model.artifact import INT8_FOLDER, load_artifact
from model.distances import paired_distances
from model.embedder import Embedder

SIDE = 256
RED, INK, PAPER = (200, 30, 40), (20, 20, 20), (250, 248, 242)
Points = list[tuple[float, float]]


def polygon(count: int, inner: float = 1.0) -> Points:
    """A star, or a regular polygon if ``inner`` is 1, centred at 0 with radius 1."""
    corners = 2 * count
    radii = [1.0 if place % 2 == 0 else inner for place in range(corners)]
    angles = [math.pi * (place / count - 0.5) for place in range(corners)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def heart() -> Points:
    steps = np.linspace(0, 2 * math.pi, 60)
    x = np.sin(steps) ** 3
    y = -(13 * np.cos(steps) - 5 * np.cos(2 * steps) - 2 * np.cos(3 * steps) - np.cos(4 * steps)) / 16
    return list(zip(x.tolist(), y.tolist(), strict=True))


SHAPES: dict[str, Points] = {
    "disc": polygon(60),
    "heart": heart(),
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "star": polygon(5, inner=0.4),
    "triangle": [(0, -0.95), (0.95, 0.75), (-0.95, 0.75)],
}


def picture(name: str, colour: tuple[int, int, int], size: float = 0.8, turn: float = 0.0) -> Image.Image:
    cos, sin, reach = math.cos(turn), math.sin(turn), size * SIDE / 2
    points = [(SIDE / 2 + reach * (x * cos - y * sin), SIDE / 2 + reach * (x * sin + y * cos)) for x, y in SHAPES[name]]
    image = Image.new("RGB", (SIDE, SIDE), PAPER)
    ImageDraw.Draw(image).polygon(points, fill=colour)
    return image.filter(ImageFilter.GaussianBlur(1))


@pytest.fixture(scope="module")
def probability() -> Callable[[Image.Image, Image.Image], float]:
    embedder = Embedder(load_artifact(PRETRAINED / "symbols" / INT8_FOLDER), "cpu", 1)

    def same(one: Image.Image, two: Image.Image) -> float:
        vectors = embedder.embed(np.stack([embedder.prepare(image) for image in (one, two)]))
        distance = paired_distances(embedder.metric, vectors[:1], vectors[1:])
        return float(embedder.manifest.calibration.probability(distance)[0])

    return same


@pytest.mark.parametrize("colour", [RED, INK], ids=["red", "ink"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_filled_shape_smaller_and_turned_a_little_is_most_like_itself(probability, name, colour):
    asked = picture(name, colour, size=0.55, turn=0.1)
    found = {each: probability(picture(each, colour), asked) for each in SHAPES}
    assert max(found, key=found.__getitem__) == name, found


@pytest.mark.parametrize("name", SHAPES)
def test_a_filled_shape_is_like_itself_smaller_and_turned_a_little(probability, name):
    assert probability(picture(name, RED), picture(name, RED, size=0.55, turn=0.1)) > 0.9
