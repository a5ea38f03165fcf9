"""Generated drawings of symbols for tests and benchmarks of the camera."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE = 64
_LARGE = 4 * SIDE
_PEN = (0, 0, 0, 255)
_RED, _BLUE, _YELLOW, _WHITE, _GREEN = "#d01818", "#1858b8", "#f8c818", "#ffffff", "#20904a"


def _arrow(pen: ImageDraw.ImageDraw) -> None:
    pen.polygon([(20, 100), (140, 100), (140, 40), (236, 128), (140, 216), (140, 156), (20, 156)], fill=_PEN)


def _letter(pen: ImageDraw.ImageDraw) -> None:
    pen.text((128, 128), "R", font=ImageFont.load_default(250), anchor="mm", fill=_PEN)


def _house(pen: ImageDraw.ImageDraw) -> None:
    pen.line([(24, 124), (128, 28), (232, 124)], fill=_PEN, width=14, joint="curve")
    pen.line([(56, 110), (56, 228), (200, 228), (200, 110)], fill=_PEN, width=14, joint="curve")
    pen.rectangle([104, 160, 152, 228], outline=_PEN, width=12)


def _spiral(pen: ImageDraw.ImageDraw) -> None:
    pen.arc([24, 24, 232, 232], 0, 270, fill=_PEN, width=10)
    pen.arc([60, 60, 196, 196], 90, 360, fill=_PEN, width=10)
    pen.line([(128, 60), (128, 128), (180, 128)], fill=_PEN, width=10)


def _sign(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse([16, 16, 240, 240], fill=_RED)
    pen.ellipse([48, 48, 208, 208], fill=_WHITE)
    pen.text((128, 126), "7", font=ImageFont.load_default(130), anchor="mm", fill=_PEN)


def _warning(pen: ImageDraw.ImageDraw) -> None:
    pen.polygon([(128, 24), (244, 226), (12, 226)], fill=_YELLOW)
    pen.polygon([(128, 24), (244, 226), (12, 226)], outline=_PEN, width=14)
    pen.rectangle([118, 92, 138, 164], fill=_PEN)
    pen.ellipse([115, 180, 141, 206], fill=_PEN)


def _logo(pen: ImageDraw.ImageDraw) -> None:
    pen.rounded_rectangle([16, 40, 240, 216], 44, fill=_BLUE)
    pen.polygon([(92, 74), (92, 182), (190, 128)], fill=_WHITE)


def _face(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse([16, 16, 240, 240], fill=_YELLOW)
    pen.ellipse([72, 80, 104, 124], fill=_PEN)
    pen.ellipse([152, 80, 184, 124], fill=_PEN)
    pen.chord([72, 110, 184, 206], 0, 180, fill=_RED)


def _leaf(pen: ImageDraw.ImageDraw) -> None:
    pen.pieslice([-60, 40, 220, 320], 270, 360, fill=_GREEN)
    pen.pieslice([40, -60, 320, 220], 90, 180, fill=_GREEN)
    pen.line([(30, 226), (200, 60)], fill=_PEN, width=8)


DRAWERS: tuple[Callable[[ImageDraw.ImageDraw], None], ...] = (
    _arrow, _letter, _house, _spiral, _sign, _warning, _logo, _face, _leaf,
)  # fmt: skip


def drawings() -> Tensor:
    """Return nine byte drawings (9, 4, 64, 64): the first four in ink, the others coloured."""
    made = []
    for draw in DRAWERS:
        image = Image.new("RGBA", (_LARGE, _LARGE), (0, 0, 0, 0))
        draw(ImageDraw.Draw(image))
        small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
        made.append(torch.tensor(bytearray(small.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 4).permute(2, 0, 1))
    return torch.stack(made)
