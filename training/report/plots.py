"""The plots of a report, drawn from ``report.json`` as SVG that takes its colours from the surrounding page.

Three colours are placeholders: ``_INK`` for lines and text, ``_FAINT`` for grids, ``_PAPER`` for the background.
``inline`` replaces them by the page's colours, for light pages, dark pages and print; ``standalone`` by fixed ones.
"""

from __future__ import annotations

import base64
import colorsys
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image
from scipy.special import ndtri

from training.report.anchors import Anchor, anchors_of
from training.report.schema import Map, Report, Verification, WayPoint

_INK, _FAINT, _PAPER = "#010203", "#040506", "#070809"
BLUE, ORANGE, GREEN, PURPLE, RED = "#3a86d8", "#e6852d", "#2ca379", "#9a6fd6", "#d9534f"
_SIZE = (4.7, 3.6)
_TICKS = (0.0001, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_NAMES = {
    "within": ("negatives of one {group}", ORANGE),
    "across": ("negatives of two {group}s", BLUE),
    "all": ("negatives of all classes", BLUE),
}
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


def draw_all(report: Report) -> dict[str, str]:
    """Return every plot for which the report has data, as SVG text by name."""
    drawers: dict[str, Callable[[Report], Canvas | None]] = {
        "anchors": anchor_bars,
        "ways": accuracy_by_ways,
        "det": detection_error_tradeoff,
        "roc": receiver_operating_characteristic,
        "open-set": identification,
        "reliability": reliability_diagram,
        "map": embedding_map,
        "training": training_curves,
    }
    pictures = {}
    for name, draw in drawers.items():
        with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
            canvas = draw(report)
            if canvas is not None:
                pictures[name] = _svg(canvas)
    return pictures


def inline(svg: str) -> str:
    """Return the plot for a page whose style sets ``--faint`` and ``--paper``."""
    return svg.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)").replace(_PAPER, "var(--paper)")


def standalone(svg: str) -> str:
    """Return the plot as a standalone file on white."""
    plain = svg.replace(_INK, "#222222").replace(_FAINT, "#dddddd").replace(_PAPER, "#ffffff")
    return re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', plain, count=1)


def _name(curve: Verification, report: Report) -> tuple[str, str]:
    name, colour = _NAMES[curve.name]
    return name.format(group=report.origin.group), colour


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.05, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg, count=1)
    return re.sub(r"font: ([\d.]+)px 'DejaVu Sans'[^;\"]*", r"font: \1px system-ui, 'DejaVu Sans', sans-serif", svg)


def _canvas(size: tuple[float, float] = _SIZE) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=size, layout="constrained")
    return canvas, canvas.add_subplot()


# -- one-shot --------------------------------------------------------------------------------------------------------


def anchor_bars(report: Report) -> Canvas | None:
    """Error in the official runs, next to published figures."""
    if report.figure("runs") is None:
        return None
    own = [Anchor(report.origin.name, 100 - row.value) for row in report.figures if row.key == "runs"]
    rows = sorted([*anchors_of("runs"), *own], key=lambda row: -row.value)
    canvas, axis = _canvas((5.2, 0.34 * len(rows) + 0.6))
    colours = [BLUE if row in own else _FAINT for row in rows]
    axis.barh(range(len(rows)), [row.value for row in rows], color=colours, height=0.7)
    axis.set_yticks(range(len(rows)), [row.name for row in rows])
    for place, row in enumerate(rows):
        weight = "bold" if row in own else "normal"
        axis.text(row.value + 1, place, f"{row.value:.3g} %", va="center", fontweight=weight)
    axis.grid(visible=False)
    axis.set(xticks=[], xlim=(0, max(row.value for row in rows) * 1.15))
    axis.spines[["bottom", "left"]].set_visible(False)
    return canvas


def accuracy_by_ways(report: Report) -> Canvas | None:
    """Accuracy against the number of classes in a trial."""
    canvas, axis = _canvas()
    group = report.origin.group
    for points, name, colour in (
        (report.across_way, f"classes of all {group}s" if report.within_way else "all classes", BLUE),
        (report.within_way, f"classes of one {group}", ORANGE),
    ):
        if points:
            _band(axis, points, name, colour)
    ways = sorted({point.n_way for point in (*report.across_way, *report.within_way)})
    shown = [way for way in ways if way in {2, 5, 10, 20, 50, 100, 200}]
    axis.set(xscale="log", xlabel="classes to choose from (N)", ylabel="right, %")
    axis.set_xticks(shown, [str(way) for way in shown])
    axis.minorticks_off()
    chance = np.geomspace(min(ways), max(ways), 50)
    bottom, top = axis.get_ylim()
    axis.plot(chance, 100 / chance, color=_INK, linewidth=1, linestyle=":", label="chance" if bottom < 50 else None)
    axis.set_ylim(bottom, min(top, 100.5))
    axis.legend(loc="lower left")
    return canvas


def _band(axis: Axes, points: tuple[WayPoint, ...], name: str, colour: str) -> None:
    ways = [point.n_way for point in points]
    values, low, high = (
        [100 * getattr(point.accuracy, field) for point in points] for field in ("value", "low", "high")
    )
    axis.fill_between(ways, low, high, color=colour, alpha=0.18, linewidth=0)
    axis.plot(ways, values, "o-", color=colour, markersize=4.5, label=name)
    axis.annotate(
        f"{values[-1]:.1f}", (ways[-1], values[-1]), (0, -13), textcoords="offset points", ha="center", color=colour
    )


# -- verification ----------------------------------------------------------------------------------------------------


def _clipped(curve: Verification) -> tuple[np.ndarray, np.ndarray]:
    fmr, fnmr = np.array(curve.fmr), np.array(curve.fnmr)
    usable = (fmr > 1 / max(curve.n_impostor, 1)) & (fmr < 1) & (fnmr > 1 / max(curve.n_genuine, 1)) & (fnmr < 1)
    return fmr[usable], fnmr[usable]


def detection_error_tradeoff(report: Report) -> Canvas | None:
    """DET curve: FNMR against FMR on normal-deviate axes (Martin et al. 1997); Gaussian scores give straight lines."""
    canvas, axis = _canvas()
    for curve in report.verification:
        name, colour = _name(curve, report)
        fmr, fnmr = _clipped(curve)
        axis.plot(ndtri(fmr), ndtri(fnmr), color=colour, label=name)
        marks = [(curve.eer.value, curve.eer.value, "o", f"EER {100 * curve.eer.value:.1f} %")]
        marks += [
            (float(rate), at.value, "D", f"{100 * at.value:.3g} %")
            for rate, at in curve.fnmr_at.items()
            if float(rate) <= 0.01
        ]
        # The curve of the harder pairs is above: its labels go to the right, the other's to the left.
        offset, side = ((8, 4), "left") if curve.name == "within" else ((-8, -11), "right")
        for across, up, marker, label in marks:
            if 0 < across < 1 and 0 < up < 1:
                place = float(ndtri(across)), float(ndtri(up))
                axis.plot(*place, marker, color=colour, markersize=6.5, markeredgecolor=_PAPER)
                axis.annotate(label, place, offset, textcoords="offset points", ha=side)
    low, high = ndtri(_TICKS[0]), ndtri(0.7)
    axis.plot([low, high], [low, high], color=_FAINT, linewidth=1)
    ticks = [float(ndtri(tick)) for tick in _TICKS]
    labels = [f"{100 * tick:g}" for tick in _TICKS]
    axis.set_xticks(ticks, labels)
    axis.set_yticks(ticks, labels)
    axis.set(xlim=(low, high), ylim=(low, high), xlabel="false matches (FMR), %", ylabel="false non-matches (FNMR), %")
    axis.plot([], [], "D", color=_INK, markersize=5, label="at FMR 1 % and 0.1 %")
    axis.legend(loc="upper right")
    return canvas


def receiver_operating_characteristic(report: Report) -> Canvas | None:
    """ROC curve: true matches against false matches, on a logarithmic axis."""
    canvas, axis = _canvas()
    for curve in report.verification:
        name, colour = _name(curve, report)
        fmr, fnmr = np.array(curve.fmr), np.array(curve.fnmr)
        usable = fmr > 1 / max(curve.n_impostor, 1)
        axis.plot(fmr[usable], 100 * (1 - fnmr[usable]), color=colour, label=name)
        axis.plot(curve.eer.value, 100 * (1 - curve.eer.value), "o", color=colour, markersize=7, markeredgecolor=_PAPER)
        for rate, at in curve.fnmr_at.items():
            if float(rate) <= 0.01:
                axis.plot(float(rate), 100 * (1 - at.value), "D", color=colour, markersize=6, markeredgecolor=_PAPER)
    axis.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 101), xlabel="false matches (FMR), %", ylabel="true matches, %")
    axis.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.01", "0.1", "1", "10", "100"])
    axis.minorticks_off()
    axis.plot([], [], "o", color=_INK, markersize=5, label="equal error rate")
    axis.plot([], [], "D", color=_INK, markersize=5, label="FMR 1 % and 0.1 %")
    axis.legend(loc="lower right")
    return canvas


def identification(report: Report) -> Canvas | None:
    """FNIR against FPIR for each gallery size."""
    if not report.open_set:
        return None
    canvas, axis = _canvas()
    for row, colour in zip(report.open_set, _COLOURS, strict=False):
        axis.plot(row.curve_fpir, 100 * np.array(row.curve_fnir), color=colour, label=f"{row.size} classes enrolled")
        axis.plot(row.fpir.value, 100 * row.fnir.value, "o", color=colour, markersize=7, markeredgecolor=_PAPER)
    target = report.open_set[0].target
    axis.axvline(target, color=_INK, linewidth=1, linestyle=":")
    axis.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 101))
    axis.set(xlabel="strangers named (FPIR), %", ylabel="enrolled, not named rightly (FNIR), %")
    axis.set_xticks([1e-3, 1e-2, 1e-1, 1], ["0.1", "1", "10", "100"])
    axis.minorticks_off()
    axis.plot([], [], "o", color=_INK, markersize=5, label=f"threshold asked for FPIR {100 * target:g} %")
    canvas.legend(loc="outside lower center", ncols=2, fontsize=8.5)
    return canvas


def reliability_diagram(report: Report) -> Canvas | None:
    """Reliability diagram: share of pairs that are of one class, against the predicted probability."""
    found = report.reliability
    canvas, axis = _canvas()
    axis.plot([0, 100], [0, 100], color=_INK, linewidth=1, linestyle=":", label="perfect")
    predicted, observed = 100 * np.array(found.predicted), 100 * np.array(found.observed)
    axis.fill_between(predicted, predicted, observed, color=ORANGE, alpha=0.2, linewidth=0)
    axis.plot(predicted, observed, "o-", color=BLUE, markersize=5, label=f"measured, ECE {100 * found.ece:.2f} %")
    axis.set(xlabel="similarity, as a probability, %", ylabel="pairs that are of one class, %")
    axis.set(xlim=(-2, 102), ylim=(-2, 102))
    axis.legend(loc="upper left")
    return canvas


# -- embeddings and training -----------------------------------------------------------------------------------------


def embedding_map(report: Report) -> Canvas | None:
    """All classes on the map, each shown by its picture in the colour of its group."""
    if report.map is None:
        return None
    found = report.map
    canvas, axis = _canvas((7.2, 7.2))
    colours = [_group_colour(index, len(found.groups)) for index in range(len(found.groups))]
    if found.sprites:
        sheet = _sheet(found)
        # One image with all thumbnails: separate images would repeat the file overhead hundreds of times.
        axis.imshow(sheet(colours), extent=(-1.06, 1.06, -1.06, 1.06), interpolation="lanczos")
    else:
        axis.scatter(found.x, found.y, c=[colours[group] for group in found.group], s=14)
    if 1 < len(found.groups) <= 30:
        for name, colour in zip(found.groups, colours, strict=True):
            axis.plot([], [], "s", color=colour, label=name.replace("_", " "))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=7.5, handletextpad=0.2)
    axis.set_axis_off()
    axis.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06))
    return canvas


def _group_colour(index: int, n_groups: int) -> tuple[float, float, float]:
    """Return a colour that is visible on light and dark; neighbours also differ in lightness."""
    return colorsys.hls_to_rgb(index / n_groups, 0.44 if index % 2 else 0.53, 0.72)


def _sheet(found: Map) -> Callable[[list[tuple[float, float, float]]], np.ndarray]:
    """Return a function from group colours to one transparent image with all thumbnails placed on the map."""
    data = base64.b64decode(found.sprites.partition(",")[2])
    sprites = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    side, pixels = found.sprite_side, 1300

    def lay_out(colours: list[tuple[float, float, float]]) -> np.ndarray:
        out = np.zeros((pixels, pixels, 4), np.uint8)
        for index, (x, y, group) in enumerate(zip(found.x, found.y, found.group, strict=True)):
            row, column = divmod(index, found.sprite_columns)
            ink = sprites[row * side : (row + 1) * side, column * side : (column + 1) * side]
            top = round((1.06 - y) / 2.12 * pixels - side / 2)
            left = round((1.06 + x) / 2.12 * pixels - side / 2)
            place = out[top : top + side, left : left + side]
            bold = ink > place[..., 3]
            place[bold, :3] = (np.array(colours[group]) * 255).astype(np.uint8)
            place[..., 3] = np.maximum(place[..., 3], ink)
        return out

    return lay_out


def training_curves(report: Report) -> Canvas | None:
    """Loss and held-out error by step, from the run's history."""
    if len(report.history) < 2:
        return None
    canvas, axis = _canvas()
    steps = [look.step for look in report.history]
    axis.plot(steps, [look.loss for look in report.history], color=BLUE, linewidth=1.3)
    axis.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axis.yaxis.label.set_color(BLUE)
    looked = [(look.step, 100 * look.error) for look in report.history if look.error is not None]
    if looked:
        other = axis.twinx()
        other.plot(*zip(*looked, strict=True), "o-", color=ORANGE, markersize=4)
        other.set(ylabel="one-shot error on held-out classes, %", ylim=(0, None))
        other.yaxis.label.set_color(ORANGE)
        other.grid(visible=False)
        other.annotate(f"{looked[-1][1]:.1f} %", looked[-1], (-4, 8), textcoords="offset points", ha="right")
    return canvas
