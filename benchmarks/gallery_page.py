"""Generates docs/benchmarks-gallery.md from the results of `benchmarks.gallery` and `benchmarks.bulk`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parent.parent / "docs"
_RECORD = _DOCS / "benchmarks-gallery.json"
_PAGE = _DOCS / "benchmarks-gallery.md"

_HEAD = """# Gallery benchmark

Generated from `docs/benchmarks-gallery.json` by the two commands below; no figure is typed in.

## Galleries by size

`python -m benchmarks.gallery --work FOLDER` (needs `ONESHOT_DATASETS`; the first run embeds a million characters). Each
class is one image: an Omniglot drawing in one of eight orientations, distorted as in training, embedded by the form of
the model that the service runs. A query is an enrolled character distorted otherwise, sent as PNG to `/classify` of one
`oneshot serve` over one connection, one after the other (400 queries). Recall is that of the index against a look at
every vector, for the same queries; it says nothing about the model. Enrolment is one `/enroll/batch` of 500 images over
HTTP, durable when answered, at that size. Memory is the process's proportional share (PSS) after that, mapped files
included, less that of a server without any class. The start is from the command to `/readyz`, with the files in the
system's cache. The classes that were there before have their vectors stored, but not their images.

| classes | classify p50 | p99 | recall@1 | enrol/s | memory | of the raw vectors | start | load |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""

_BULK = """
## Many images against one by one

`python -m benchmarks.bulk` (needs `ONESHOT_DATASETS`): {images:,} of Omniglot's evaluation images, each of another
class, over HTTP to `oneshot serve --workers {workers}` on the same machine, all durable when answered. One by one: one
client (`oneshot_client.Client`), one connection, one image a request, the next when the one before is answered. In
batches: the same client, `POST /enroll/batch` of {batch:,} images. Median of {rounds} rounds (lowest to highest).

| way | images/s | times one by one |
|---|---:|---:|
"""


def write_page(**results: Any) -> str:
    """Record the results, and write and return the page of all recorded results."""
    found: dict[str, Any] = json.loads(_RECORD.read_text("utf-8")) if _RECORD.exists() else {}
    sizes = found.get("sizes", {}) | results.pop("sizes", {})
    found |= results
    found["sizes"] = dict(sorted(sizes.items(), key=lambda each: int(each[0])))
    _RECORD.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    page = render(found)
    _PAGE.write_text(page, "utf-8")
    return page


def render(found: Mapping[str, Any]) -> str:
    """The page."""
    page = _HEAD + "".join(_size(row) for row in found["sizes"].values())
    runs = sorted({_where(row["run"]) for row in found["sizes"].values()})
    page += f"\nModel: {found.get('model', 'unknown')}. " + " ".join(runs) + "\n"
    if "bulk" in found:
        page += _BULK.format(**found["bulk"])
        page += "".join(_way(name, way, found["bulk"]) for name, way in found["bulk"]["ways"].items())
        page += f"\n{_where(found['bulk']['run'])} Load average {found['bulk']['load']:.1f}.\n"
    return page


def _size(row: Mapping[str, Any]) -> str:
    share = f"{row['megabytes'] / row['raw_megabytes']:.2f} times" if row["classes"] >= 10_000 else "-"
    return (
        f"| {row['classes']:,} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | {row['recall']:.4f} | "
        f"{row['enrol_per_s']:,.0f} | {row['megabytes']:,.1f} MB | {share} | {row['start_s']:.1f} s | "
        f"{row['load']:.1f} |\n"
    )


def _way(name: str, rates: list[float], bulk: Mapping[str, Any]) -> str:
    ordered = sorted(rates)
    median = ordered[len(ordered) // 2]
    one = sorted(bulk["ways"]["one by one"])
    return f"| {name} | {median:,.0f} ({ordered[0]:,.0f} to {ordered[-1]:,.0f}) | {median / one[len(one) // 2]:.1f} |\n"


def _where(run: Mapping[str, str]) -> str:
    return f"{run['date']}, {run['machine']}; {run['versions']}."
