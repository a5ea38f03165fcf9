"""The report as Markdown, with its plots as SVG files in the same folder."""

from __future__ import annotations

from collections.abc import Iterable

from training.report.schema import Report
from training.report.words import CAPTIONS, Table, tables

_PLOTS = {
    "figures": ("anchors",),
    "ways": ("ways",),
    "verification": ("det", "roc", "reliability"),
    "open-set": ("open-set", "map", "training"),
}


def as_markdown(report: Report, pictures: Iterable[str]) -> str:
    """Return the report as Markdown; ``pictures`` are the names of the plots in its folder."""
    drawn = set(pictures)
    lines = [f"# Report: {report.origin.name}", "", f"Generated from `report.json` of `{report.origin.model_id}`.", ""]
    for name, table in tables(report).items():
        if not table.rows:
            continue
        lines += [f"## {table.title}", "", *as_table(table), ""]
        for plot in _PLOTS.get(name, ()):
            if plot in drawn:
                lines += [f"![{CAPTIONS[plot]}]({plot}.svg)", ""]
    return "\n".join(lines)


def as_table(table: Table) -> list[str]:
    """Return a table as lines of Markdown."""
    lines = [_row(table.columns), _row(["---"] * len(table.columns)), *(_row(row) for row in table.rows)]
    return [*lines, "", table.note] if table.note else lines


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
