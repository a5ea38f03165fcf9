"""The guides contain no archaic words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testing.docs import ROOT, pages, prose

_ARCHAIC = re.compile(r"\b(anew|at need|whoever|but for|told|somebody who)\b", re.IGNORECASE)


def archaisms(page: Path) -> list[str]:
    """Archaic words in a page's prose, including phrases broken across lines."""
    return _ARCHAIC.findall(re.sub(r"\s+", " ", prose(page)))


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in pages()])
def test_a_page_has_no_archaisms(page: str):
    assert archaisms(ROOT / page) == []


def test_archaisms_are_found_across_lines_but_not_in_code(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("Built Anew, made at\nneed.\n\n```text\nwhoever\n```\n\n`told`\n", "utf-8")
    assert archaisms(page) == ["Anew", "at need"]
