"""Write a report to disk: ``report.json``, and from it plots, Markdown and the HTML page."""

from __future__ import annotations

from pathlib import Path

from training.report.markdown import as_markdown
from training.report.page import as_page
from training.report.plots import draw_all, standalone
from training.report.schema import REPORT_FILE, Report, read_report

MARKDOWN_FILE = "report.md"
PAGE_FILE = "report.html"


def write_report(report: Report, folder: Path) -> Path:
    """Write everything into ``folder`` and return the path of the page."""
    report.write(folder / REPORT_FILE)
    return render(folder)


def render(folder: Path) -> Path:
    """Write plots, Markdown and the page from the folder's ``report.json``, and return the page's path.

    Raises:
        ReportError: there is no report in the folder.
    """
    report = read_report(folder / REPORT_FILE)
    pictures = draw_all(report)
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_text(standalone(svg), encoding="utf-8")
    (folder / MARKDOWN_FILE).write_text(as_markdown(report, pictures), encoding="utf-8")
    page = folder / PAGE_FILE
    page.write_text(as_page(report, pictures), encoding="utf-8")
    return page
