"""Render vector graphics and glyphs to drawings."""

from __future__ import annotations

import io
from typing import Final

import resvg_py
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.ttLib import TTFont
from PIL import Image

from training.data.symbols.drawing import Drawing, cut

_RENDERED: Final = 160


def draw(svg: str) -> Drawing | None:
    """Render an SVG document; None if it is blank.

    Raises:
        ValueError: it is not valid SVG.
    """
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=_RENDERED, height=_RENDERED))
    # Premultiplied, so that the colours of transparent pixels do not bleed into the edges.
    return cut(Image.open(io.BytesIO(png)).convert("RGBa"))


def document(body: str, left: float, top: float, width: float, height: float) -> str:
    """Return an SVG document around ``body``; ``currentColor`` is black."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
        f'viewBox="{left:g} {top:g} {width:g} {height:g}">{body}</svg>'
    )


class Font:
    """A font file, rendered glyph by glyph."""

    def __init__(self, data: bytes) -> None:
        self._font = TTFont(io.BytesIO(data), lazy=True)
        self._names: dict[int, str] = self._font.getBestCmap() or {}
        self._glyphs = self._font.getGlyphSet()

    @property
    def points(self) -> list[int]:
        """The code points that have a glyph, in order."""
        return sorted(self._names)

    def svg(self, point: int) -> str | None:
        """Return the glyph as an SVG document; None if it is blank."""
        glyph = self._glyphs[self._names[point]]
        bounds = BoundsPen(self._glyphs)
        glyph.draw(bounds)
        if bounds.bounds is None:
            return None
        left, bottom, right, top = bounds.bounds
        side = max(right - left, top - bottom, 1)
        pen = SVGPathPen(self._glyphs)
        glyph.draw(pen)
        return document(f'<path transform="scale(1 -1)" d="{pen.getCommands()}"/>', left, -top, side, side)
