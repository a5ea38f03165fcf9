"""Parse the guides for tests: fenced blocks, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: the language after the fence, and the text."""

    language: str
    text: str


def blocks(file: Path) -> list[Block]:
    """All fenced blocks in order. Tests run those in `sh` and `python`."""
    return [Block(language.strip(), text) for language, text in _FENCE.findall(file.read_text("utf-8"))]


def prose(file: Path) -> str:
    """The text without fenced and indented blocks and without code spans."""
    text = _FENCE.sub("", file.read_text("utf-8"))
    text = re.sub(r"^(    |\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]+`", "", text)


def links(file: Path) -> list[str]:
    """The targets of all links and pictures."""
    return _LINK.findall(prose(file))


def anchors(file: Path) -> set[str]:
    """The anchors of headings as the code host generates them: lower case, spaces to hyphens, no punctuation."""
    text = _FENCE.sub("", file.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(text)}


def pages() -> list[Path]:
    """Every documentation page, generated ones included."""
    return sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "model").rglob("*.md"), ROOT / "client/README.md"])
