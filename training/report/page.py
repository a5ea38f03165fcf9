"""The report as one self-contained HTML file, with plots and images inline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from training.report.anchors import anchors_in
from training.report.plots import inline
from training.report.schema import Mistake, Report
from training.report.words import CAPTIONS, Table, tables

_STYLE = Path(__file__).with_name("page.css")
_HEADLINES = {
    "runs": "official 20 runs",
    "one-shot": "one-shot, all images",
    "verification": "verification",
    "verification-within": "verification, look-alikes",
    "mnist": "MNIST, 10-way",
}


def as_page(report: Report, pictures: Mapping[str, str]) -> str:
    """Return the page; ``pictures`` are the plots by name, as SVG text."""
    found = tables(report)
    sections = [
        _section("figures", "What was measured", _table(found["figures"]), _plots(pictures, "anchors")),
        _section("ways", "More to choose from", _plots(pictures, "ways"), _folded(found["ways"])),
        _section(
            "verification",
            "Are two images of one class?",
            _plots(pictures, "det", "roc"),
            _table(found["verification"]),
        ),
        _section(
            "open-set",
            "Known, or a stranger?",
            _plots(pictures, "open-set", "reliability"),
            _table(found["open-set"]),
        ),
        _section("mistakes", "The worst mistakes", _mistakes(report)),
        _section("map", "What is near to what", _plots(pictures, "map")),
        _section("training", "How it was trained", _plots(pictures, "training"), _recipe(report)),
        _section("origin", "How this was measured", _table(found["origin"])),
    ]
    body = "".join(section for section in sections if section)
    title = f"{report.origin.name}: report"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>{_header(report)}<main>{body}</main>{_footer(report)}</body></html>\n"
    )


def _header(report: Report) -> str:
    origin = report.origin
    cards = "".join(_card(report, key, name) for key, name in _HEADLINES.items())
    cost = (
        f'<div class="card"><b>{report.cost.images_per_second:,.0f}</b><span>images/s</span>'
        f"<small>one thread, batches of {report.cost.batch}, {escape(report.cost.engine)}</small></div>"
    )
    facts = f"{origin.network}, {origin.parameters / 1e6:.2f} M parameters, {origin.bytes / 1e6:.1f} MB"
    links = {"figures": "Figures", "verification": "Pairs", "open-set": "Strangers", "mistakes": "Mistakes"}
    links |= {"map": "Map", "origin": "Origin"}
    nav = "".join(f'<a href="#{key}">{name}</a>' for key, name in links.items())
    return (
        f'<header><p class="kicker">Evaluation report</p><h1>{escape(origin.name)}</h1>'
        f"<p><code>{escape(origin.model_id)}</code> &middot; {escape(facts)} &middot; {origin.date:%d %B %Y}</p>"
        f'<p>{escape(origin.data)}</p><div class="cards">{cards}{cost}</div><nav>{nav}</nav></header>'
    )


def _card(report: Report, key: str, name: str) -> str:
    figure = report.figure(key)
    if figure is None:
        return ""
    anchors = anchors_in(report, key)
    best = ""
    if anchors:
        values = [100 - anchor.value if key == "runs" else anchor.value for anchor in anchors]
        top = max(range(len(anchors)), key=values.__getitem__)
        best = f"<br>published: {values[top]:.4g} % ({escape(anchors[top].name)})"
    place = min(max((figure.value - figure.low) / max(figure.high - figure.low, 1e-9), 0), 1)
    return (
        f'<div class="card"><b>{figure.value:.2f}<i>%</i></b><span>{escape(name)}</span>'
        f'<div class="range" style="--at:{100 * place:.0f}%"></div>'
        f"<small>{figure.low:.2f} to {figure.high:.2f}, n = {figure.n:,}{best}</small></div>"
    )


def _section(key: str, title: str, *parts: str) -> str:
    content = "".join(parts)
    return f'<section id="{key}"><h2>{escape(title)}</h2>{content}</section>' if content else ""


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    # Focusable, so that a wide table can be scrolled by keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _folded(table: Table) -> str:
    if not table.rows:
        return ""
    return f"<details><summary>{escape(table.title)}, as a table</summary>{_table(table)}</details>"


def _plots(pictures: Mapping[str, str], *names: str) -> str:
    shown = [
        f'<figure class="{name}" role="img" aria-label="{escape(CAPTIONS[name])}">{inline(pictures[name])}'
        f"<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>"
        for name in names
        if name in pictures
    ]
    return f'<div class="plots">{"".join(shown)}</div>' if shown else ""


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return "<p>There was none.</p>" if report.n_mistakes == 0 else ""
    n = report.figure("one-shot")
    trials = f" of {n.n:,}" if n else ""
    shown = "".join(_mistake(mistake) for mistake in report.mistakes)
    return (
        f"<p>{report.n_mistakes:,}{trials} one-shot trials went wrong. These are the {len(report.mistakes)} in which "
        "the right example was farthest behind the chosen one; smaller distances mean more alike.</p>"
        f'<div class="gallery">{shown}</div>'
    )


def _mistake(mistake: Mistake) -> str:
    cells = (
        ("asked", mistake.query_image, mistake.truth, ""),
        ("right", mistake.truth_image, mistake.truth, f"{mistake.distance_truth:.3f}"),
        ("chosen", mistake.chosen_image, mistake.chosen, f"{mistake.distance_chosen:.3f}"),
    )
    return (
        '<div class="mistake">'
        + "".join(
            f'<div class="{kind}">{_image(picture, kind, name)}<span>{kind}</span><b>{distance}</b></div>'
            for kind, picture, name, distance in cells
        )
        + f"<p>{escape(_label(mistake.truth))} <br>taken for {escape(_label(mistake.chosen))}</p></div>"
    )


def _image(picture: str, kind: str, name: str) -> str:
    if not picture:
        return ""
    return f'<img src="{picture}" alt="{escape(kind)}: {escape(_label(name))}" width="96" height="96">'


def _label(name: str) -> str:
    return name.replace("_", " ").replace("/character", " ").replace("/", " ")


def _recipe(report: Report) -> str:
    text = escape(json.dumps(report.origin.recipe, indent=2))
    return f"<details><summary>The recipe</summary><pre>{text}</pre></details>"


def _footer(report: Report) -> str:
    return (
        f"<footer>Made from <code>report.json</code> by <code>{escape(report.origin.command)}</code>. Intervals are "
        f"95 %, bootstrapped over {report.origin.group}s, classes or runs, not over trials.</footer>"
    )
