"""The tables of a report, as plain text cells for Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass

from training.report.anchors import anchors_in
from training.report.schema import Figure, Point, Report

VERIFICATION_NAMES = {"within": "of one {group}", "across": "of two {group}s", "all": "of all classes"}
CAPTIONS = {
    "anchors": "Errors in the official 20 runs beside published ones. People, too, err.",
    "ways": "One-shot accuracy against the number of classes to choose from, with 95 % intervals.",
    "det": "Detection error trade-off on normal-deviate axes: lower left is better.",
    "roc": "Receiver operating characteristic; the horizontal axis is logarithmic.",
    "open-set": "Open-set identification. Dots: the threshold that the calibration gives for the wanted rate.",
    "reliability": "How often pairs of a predicted probability really are of one class, at prior 0.5.",
    "map": "Every class of the evaluation as the network sees it, placed by what it makes of it. Nearby means alike.",
    "training": "Loss, and one-shot error on the classes that were held out from training.",
}


@dataclass(frozen=True)
class Table:
    """A table: title, column names, rows, and an explanatory note."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(report: Report) -> dict[str, Table]:
    """Return every table of the report, by name."""
    return {
        "figures": _figures(report),
        "verification": _verification(report),
        "open-set": _open_set(report),
        "ways": _ways(report),
        "origin": _origin(report),
    }


def percent(point: Point) -> str:
    """Return a rate with its interval, such as ``3.86 % (3.06 to 4.72)``."""
    return f"{100 * point.value:.3g} % ({100 * point.low:.3g} to {100 * point.high:.3g})"


def _figures(report: Report) -> Table:
    columns: tuple[str, ...] = ("protocol", "right", "95 % interval", "n", "interval over", "seed", "published")
    cells = tuple(_figure(row, report) for row in report.figures)
    if not any(row[-1] for row in cells):
        columns, cells = columns[:-1], tuple(row[:-1] for row in cells)
    return Table(
        "Figures",
        columns,
        cells,
        "Ties count as wrong; a query is never its own support; the right answer's place is shuffled.",
    )


def _figure(row: Figure, report: Report) -> tuple[str, ...]:
    anchors = anchors_in(report, row.key)
    published = "; ".join(
        f"{anchor.name} {100 - anchor.value if row.key == 'runs' else anchor.value:.4g} %" for anchor in anchors[-3:]
    )
    seed = "fixed trials" if row.seed is None else str(row.seed)
    interval = f"{row.low:.2f} to {row.high:.2f}"
    return row.protocol, f"{row.value:.2f} %", interval, f"{row.n:,}", row.over, seed, published


def _verification(report: Report) -> Table:
    rates = list(report.verification[0].fnmr_at) if report.verification else []
    columns = (
        "negatives",
        "EER",
        *(f"FNMR at FMR {100 * float(rate):g} %" for rate in rates),
        "pairs same",
        "different",
    )
    rows = tuple(
        (
            VERIFICATION_NAMES[row.name].format(group=report.origin.group),
            percent(row.eer),
            *(percent(row.fnmr_at[rate]) for rate in rates),
            f"{row.n_genuine:,}",
            f"{row.n_impostor:,}",
        )
        for row in report.verification
    )
    note = f"95 % intervals are bootstrapped over {report.origin.group}s (over classes where there are none)."
    return Table("Verification", columns, rows, note)


def _open_set(report: Report) -> Table:
    columns = ("classes enrolled", "FPIR asked for", "FPIR", "FNIR", "AUROC", "OSCR", "queries", "strangers")
    rows = tuple(
        (
            str(row.size),
            f"{100 * row.target:g} %",
            percent(row.fpir),
            percent(row.fnir),
            f"{row.auroc:.4f}",
            f"{row.oscr:.4f}",
            f"{row.n_known:,}",
            f"{row.n_strangers:,}",
        )
        for row in report.open_set
    )
    return Table(
        "Open set", columns, rows, "FPIR: strangers named as somebody. FNIR: enrolled classes not named rightly."
    )


def _ways(report: Report) -> Table:
    within = {point.n_way: point for point in report.within_way}
    across = {point.n_way: point for point in report.across_way}
    rows = tuple(
        (str(way), *(percent(points[way].accuracy) if way in points else "" for points in (within, across)))
        for way in sorted({*within, *across})
    )
    n = next((point.n for point in (*report.across_way, *report.within_way)), 0)
    return Table(
        "Accuracy by N", ("N", f"classes of one {report.origin.group}", "classes of all"), rows, f"{n:,} trials each."
    )


def _origin(report: Report) -> Table:
    origin, cost = report.origin, report.cost
    minutes = "not recorded" if origin.training_minutes is None else f"{origin.training_minutes:.1f}"
    speed = (
        f"{cost.images_per_second:.0f} images/s on one thread by {cost.engine} "
        f"({cost.slowest:.0f} to {cost.fastest:.0f}; median of {cost.rounds} batches of {cost.batch})"
    )
    rows = {
        "model": origin.model_id,
        "digest (SHA-256)": origin.digest,
        "network": f"{origin.network}, {origin.parameters:,} parameters, {origin.bytes / 1e6:.2f} MB",
        "embedding": f"{origin.dim} numbers, {origin.similarity}",
        "input": origin.input,
        "speed": speed,
        "training": f"seed {'unknown' if origin.training_seed is None else origin.training_seed}; minutes: {minutes}",
        "measured on": origin.data,
        "command": origin.command,
        "date": f"{origin.date:%Y-%m-%d %H:%M} UTC",
        "machine": f"{origin.machine}; {origin.threads} thread{'s' * (origin.threads > 1)}",
        "versions": ", ".join(f"{name} {found}" for name, found in origin.versions.items()),
    }
    return Table("Origin", ("what", "value"), tuple(rows.items()))
