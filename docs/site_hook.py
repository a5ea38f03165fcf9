"""For `make docs`: pages outside of docs/ that are linked to become part of the site, under project/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\]\(\.\./([\w./-]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add each file that a page links to with `../`, and those that these link to."""
    waiting = [target for page in (ROOT / "docs").glob("*.md") for target in _OUTSIDE.findall(page.read_text("utf-8"))]
    for target in sorted(set(waiting)):
        content = (ROOT / target).read_text("utf-8")
        if target.endswith(".md"):
            up = "../" * (target.count("/") + 1)
            content = content.replace("](docs/", f"]({up}")
        files.append(File.generated(config, f"project/{target}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead the links there."""
    return _OUTSIDE.sub(r"](project/\1", markdown)
