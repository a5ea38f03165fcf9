"""Published figures for comparison, with their sources. They are kept apart from measured figures."""

from __future__ import annotations

from dataclasses import dataclass

from training.report.schema import Report


@dataclass(frozen=True)
class Anchor:
    """A published figure: errors in percent for ``runs``, otherwise the protocol's own unit."""

    name: str
    value: float


_ANCHORS: dict[str, tuple[Anchor, ...]] = {
    # Lake, Salakhutdinov and Tenenbaum (2015 and 2019); Koch et al. (2015); Shyam, Gupta and Dukkipati (2017): error, %
    "runs": (
        Anchor("cosine on pixels", 78.3),
        Anchor("modified Hausdorff distance", 38.8),
        Anchor("convnet", 13.5),
        Anchor("Koch's Siamese net", 8.0),
        Anchor("people", 4.5),
        Anchor("BPL, with strokes", 3.3),
        Anchor("ARC, within alphabet", 2.25),
    ),
    # Koch et al. (2015): accuracy, %
    "verification": (Anchor("Koch, 150k pairs, affine", 93.42), Anchor("Koch, 30k pairs", 90.61)),
    "mnist": (Anchor("Koch", 70.3), Anchor("nearest neighbour", 26.5)),
}


def anchors_in(report: Report, key: str) -> tuple[Anchor, ...]:
    """Return the published figures of the protocol ``key`` if the report is on Omniglot's evaluation set, else none."""
    origin = report.origin
    return anchors_of(key) if origin.part == "evaluation" and origin.group == "alphabet" else ()


def anchors_of(key: str) -> tuple[Anchor, ...]:
    """Return the published figures of the protocol ``key``."""
    return _ANCHORS.get(key, ())
