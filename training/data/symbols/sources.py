"""The packages as sources of drawings: vector graphics, each with its concept and the hand that drew it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from training.data.labelled import DatasetError
from training.data.symbols.concepts import Concept, emoji_concept, flag_concept, icon_concept, letter_concept
from training.data.symbols.concepts import logo_concept as to_logo
from training.data.symbols.render import Font, document

_EMOJI: Final = frozenset({"twemoji", "noto", "fluent-emoji-flat", "emojione"})
_LOGOS: Final = frozenset({"simple-icons", "logos"})
_WIDEST: Final = 2.0
"""Largest aspect ratio of a logo; a wider one is a wordmark, which other packages draw differently."""
_SIGNS: Final = frozenset({"noto-sans-symbols", "noto-sans-symbols-2", "noto-sans-math", "noto-music"})
"""Fonts made for signs. In other fonts, arrows and currency signs are often shared fillers."""
_COMMON_LETTERS: Final = 0x250
_BASIC_LETTERS: Final = 0x80
_ACCENTED: Final = 6
"""Accented Latin letters are taken from one font in this many, because there are many fonts and many such letters."""
_WEIGHT: Final = re.compile(r"-(\d00)-normal\.woff$")
_BOLD: Final = 700


@dataclass(frozen=True)
class Graphic:
    """A vector graphic with its concept and the hand that drew it; a hand is a package in one style."""

    concept: Concept
    hand: str
    svg: str


Source = Callable[[], Iterator[Graphic]]
"""Yields graphics; it is called in a worker process."""


def find_sources(packages: Path) -> list[Source]:
    """Return a source for each package in the folder ``packages``, the largest first.

    Raises:
        DatasetError: there are no packages.
    """
    kinds: tuple[tuple[str, str, Callable[[Path], Iterator[Graphic]]], ...] = (
        ("@iconify-json/*/icons.json", "", read_icons),
        ("flag-icons/flags", "*x*/*.svg", read_flags),
        ("@fontsource/*/files", "*.woff", read_font),
    )
    found = [
        (sum(file.stat().st_size for file in (place.glob(inside) if inside else [place])), partial(read, place))
        for pattern, inside, read in kinds
        for place in sorted(packages.glob(pattern))
    ]
    if not found:
        raise DatasetError(
            f"{packages} holds no package of icons or fonts; 'oneshot-train download symbols' fetches them"
        )
    return [source for _, source in sorted(found, key=lambda each: -each[0])]


def read_icons(file: Path) -> Iterator[Graphic]:
    """Read a set of icons, emoji or logos in Iconify's JSON."""
    package = file.parent.name
    content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    codes = _codes(file.parent / "chars.json") if package in _EMOJI else {}
    seen: set[tuple[str, str]] = set()
    for name, icon in content["icons"].items():
        box = {key: icon.get(key, content.get(key, 0 if key in {"left", "top"} else 16)) for key in
               ("left", "top", "width", "height")}  # fmt: skip
        concept, style = _meaning(package, name, codes.get(name))
        wide = package in _LOGOS and box["width"] > _WIDEST * box["height"]
        # Some packages have a drawing per size; at our resolution they look the same.
        if concept is None or wide or (concept.name, style) in seen:
            continue
        seen.add((concept.name, style))
        yield Graphic(concept, f"{package}/{style}" if style else package, document(icon["body"], **box))


def _codes(file: Path) -> dict[str, str]:
    """Return code points by emoji name."""
    content: dict[str, str] = json.loads(file.read_text("utf-8"))
    return {name: code for code, name in sorted(content.items(), reverse=True)}


def _meaning(package: str, name: str, code: str | None) -> tuple[Concept | None, str]:
    if package in _EMOJI:
        return (emoji_concept(code, name) if code else None), ""
    if package in _LOGOS:
        return to_logo(name), ""
    concept, style = icon_concept(name)
    return concept, "-".join(word for word in style.split("-") if not word.isdigit())


def read_flags(folder: Path) -> Iterator[Graphic]:
    """Read the flags of flag-icons, 4 x 3 and square."""
    for shape in ("4x3", "1x1"):
        for file in sorted((folder / shape).glob("*.svg")):
            yield Graphic(flag_concept(file.stem), f"flag-icons/{shape}", file.read_text("utf-8"))


def read_font(folder: Path) -> Iterator[Graphic]:
    """Read the letters of a font family, upright, in the weight nearest to 400; of Noto fonts in the boldest too."""
    family = folder.parent.name
    files = {file: int(found[1]) for file in sorted(folder.glob("*.woff")) if (found := _WEIGHT.search(file.name))}
    weights = sorted(set(files.values()))
    usual = min(weights, key=lambda weight: abs(weight - 400))
    kept = {usual} | ({weights[-1]} if weights[-1] >= _BOLD and family.startswith("noto-") else set())
    accented = int(hashlib.sha1(family.encode(), usedforsecurity=False).hexdigest()[:4], 16) % _ACCENTED == 0
    for weight in sorted(kept):
        seen: set[int] = set()
        for file in (file for file, its in files.items() if its == weight):
            font = Font(file.read_bytes())
            for point in font.points:
                if point in seen or (_BASIC_LETTERS <= point < _COMMON_LETTERS and not accented):
                    continue
                seen.add(point)
                concept = letter_concept(point)
                if concept is None or (
                    concept.family == "letter/sign" and not _is_digit(point) and family not in _SIGNS
                ):
                    continue
                svg = font.svg(point)
                if svg is not None:
                    yield Graphic(concept, f"{family}/{weight}/{'upper' if chr(point).isupper() else 'plain'}", svg)


def _is_digit(point: int) -> bool:
    return chr(point).isdecimal()
