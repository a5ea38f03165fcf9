"""Concepts: drawings of one concept by many hands form one class, which is trained on or held out as a whole.

A concept is a name without its style words, an emoji without its skin tone, a country, or a letter.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Split = Literal["training", "choosing", "exam"]

_STYLES: Final = frozenset(
    {"outline", "outlined", "filled", "fill", "regular", "light", "bold", "duotone", "linear"}
    | {"broken", "rounded", "round", "sharp", "glyph", "solid", "thin", "line", "color"}
)
_SIZES: Final = frozenset({"10", "12", "16", "20", "24", "28", "32", "48"})
_LOGO_STYLES: Final = frozenset({"icon", "monochrome", "dark", "alt"})
_SKIN_TONES: Final = frozenset({"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})
_PRESENTATION: Final = "fe0f"
_INDICATORS: Final = range(0x1F1E6, 0x1F200)
_SAME_IN_BOTH_CASES: Final = frozenset("cosvwxz") | frozenset("жзклмнпстфхцчшщыэюя") | frozenset("οφψ")


@dataclass(frozen=True, order=True)
class Concept:
    """A class of drawings: its family, such as ``icon`` or ``letter/greek``, and its name within it."""

    family: str
    name: str
    aliases: tuple[str, ...] = ()
    """Other names, which can put it into a held-out split too."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases."""
        return (self.name, *self.aliases)


def split_of(names: Iterable[str]) -> Split:
    """Return the split of the concept with these names, by the first digits of their SHA-1.

    With an ``f`` among them it is the exam, else with an ``e`` the split for choosing and calibrating, else training.
    """
    digits = {_digest(name)[0] for name in names}
    return "exam" if "f" in digits else "choosing" if "e" in digits else "training"


def icon_concept(name: str) -> tuple[Concept, str]:
    """Return the concept and the style of an icon from its name in the package."""
    words = name.split("-")
    kept = _without_last(words, _STYLES | _SIZES)
    style = "-".join(words[len(kept) :])
    if kept[0] == "brand" and len(kept) > 1:
        return logo_concept("-".join(kept[1:])), style
    return Concept("icon", "-".join(kept)), style


def logo_concept(name: str) -> Concept:
    """Return the concept of a logo, without hyphens, because packages use them differently."""
    return Concept("logo", "".join(_without_last(name.split("-"), _LOGO_STYLES)))


def flag_concept(country: str) -> Concept:
    """Return the concept of the flag of ``country``, a country or region code."""
    return Concept("flag", country.lower())


def emoji_concept(code: str, name: str) -> Concept | None:
    """Return the concept of an emoji from its code points, such as ``1f44d-1f3fb``; None if it has a skin tone."""
    points = [point for point in code.lower().split("-") if point != _PRESENTATION]
    if _SKIN_TONES & set(points):
        return None
    numbers = [int(point, 16) for point in points]
    if len(numbers) == 2 and all(number in _INDICATORS for number in numbers):
        return flag_concept("".join(chr(ord("a") + number - _INDICATORS.start) for number in numbers))
    return Concept("emoji", "-".join(points), (name,))


def letter_concept(point: int) -> Concept | None:
    """Return the concept of a letter, digit or sign from its code point; None if it is left out.

    Punctuation is left out, because it differs mostly in size and position on the line. Of ideographs and Hangul
    syllables an eighth is kept.
    """
    letter = unicodedata.normalize("NFKC", chr(point))  # a bold mathematical A is an A
    if len(letter) != 1:
        return None
    category = unicodedata.category(letter)
    if category[0] not in "LNS" or category in {"Lm", "Sk"}:
        return None
    words = unicodedata.name(letter, "").lower().split()
    if not words:
        return None
    if words[0] in {"cjk", "hangul"} and _digest(letter)[0] not in "02":
        return None
    if letter.lower() in _SAME_IN_BOTH_CASES:
        letter = letter.lower()
    script = "sign" if category[0] != "L" else words[0]
    return Concept(f"letter/{script}", letter, (f"{ord(letter):x}", f"{point:x}", chr(point)))


def _without_last(words: list[str], dropped: frozenset[str]) -> list[str]:
    """Return the words without trailing ones from ``dropped``; at least one word stays."""
    count = len(words)
    while count > 1 and words[count - 1] in dropped:
        count -= 1
    return words[:count]


def _digest(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
