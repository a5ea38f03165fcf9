"""The model card, generated from the manifest."""

from __future__ import annotations

import json
from pathlib import Path

from model.manifest import Manifest, Measurement

CARD_FILE = "README.md"
OPERATING_POINTS = (0.1, 0.01, 0.001, 0.0001)


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write the model card of ``manifest`` beside it."""
    (folder / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")


def model_card(manifest: Manifest) -> str:
    """Return the model card of ``manifest`` as Markdown. It is generated: edit this code, not the card."""
    sections = (_title(manifest), _network(manifest), _data(manifest), _accuracy(manifest), _calibration(manifest))
    recipe = ["## Recipe", "", "```json", json.dumps(manifest.recipe, indent=2), "```"]
    return "\n".join(line for section in (*sections, recipe) for line in (*section, ""))


def _title(manifest: Manifest) -> list[str]:
    return [
        f"# Model card: {manifest.name}",
        "",
        f"`{manifest.model_id}`, trained {manifest.created:%Y-%m-%d} by `oneshot-train fit`; "
        "this page is made from `manifest.json`.",
    ]


def _network(manifest: Manifest) -> list[str]:
    spec = manifest.preprocess
    return [
        "## What it is",
        "",
        *_int8(manifest),
        *_accurate(manifest),
        f"- Network: `{manifest.network.kind}`, {manifest.weights.parameters:,} parameters, "
        f"{manifest.weights.bytes / 1e6:.1f} MB; embedding of {manifest.similarity.dim} numbers, "
        f"compared by `{manifest.similarity.kind}` (index metric `{manifest.metric}`).",
        f"- Input: {spec.size} x {spec.size} pixels, {'grey' if spec.channels == 1 else 'colour'}, "
        f"polarity `{spec.polarity}`, crop `{spec.crop}`, fit `{spec.fit}`.",
        *(f"- {line}" for line in _PURPOSES[_data_kind(manifest)]),
    ]


def _int8(manifest: Manifest) -> list[str]:
    if manifest.quantised is None:
        return []
    return [
        f"- The int8 form of `{manifest.name}@{manifest.quantised.source[:12]}`, made by `oneshot-train quantise`: "
        "a model of its own, with its own calibration, for CPUs.",
    ]


def _accurate(manifest: Manifest) -> list[str]:
    if not manifest.joined:
        return []
    members = ", ".join(f"`{name}`" for name in manifest.joined)
    return [f"- Made by `oneshot-train ensemble` of {members}; the recipe below is the first one's."]


def _data(manifest: Manifest) -> list[str]:
    held_out = f"Held out from training, to fit the calibration: {manifest.calibration.source}."
    if _data_kind(manifest) == "omniglot":
        named = ", ".join(_held_out(manifest)) or "none"
        held_out = f"Held out from training, to choose settings and fit the calibration: {named}. No image of the "
        held_out += "evaluation alphabets was used for either."
    return ["## What it was trained on", "", f"{_SOURCES[_data_kind(manifest)]} {held_out}"]


def _data_kind(manifest: Manifest) -> str:
    data = manifest.recipe.get("data")
    return str(data.get("kind")) if isinstance(data, dict) and data.get("kind") in _SOURCES else "omniglot"


_SOURCES = {
    "omniglot": "Omniglot (Lake, Salakhutdinov and Tenenbaum 2015, MIT licence), background alphabets only.",
    "faces": "The AT&T faces (Samaria and Harter 1994; credit: Olivetti Research Laboratory), 40 people.",
    "folder": "A folder of the user's own images.",
    "symbols": "Drawings of 14 sets of icons, emoji and logos, of flag-icons and of 236 font families (MIT, Apache "
    "2.0, CC BY 4.0, CC0, OFL 1.1, UFL 1.0; versions in `training/data/symbols/package-lock.json`), Omniglot's "
    "background alphabets (MIT), and patches of Caltech-101's photographs as grounds (CC BY 4.0), all photographed by "
    "a simulated camera. No photograph of a symbol was used.",
}
_PURPOSES = {
    "omniglot": (
        "Meant for: drawn or printed characters and symbols on a plain background, one example each.",
        "Not meant for: photographs of scenes, faces, or decisions about people.",
    ),
    "faces": (
        "Meant for: comparing training methods on a small public set of faces.",
        "Not meant for: decisions about people. It saw a few dozen people, in one studio.",
    ),
    "folder": ("Meant for: images like those that it was trained on.",),
    "symbols": (
        "Meant for: symbols, icons, logos and signs, drawn, printed or photographed, one example each.",
        "Not meant for: photographs of objects or scenes, faces, or decisions about people.",
    ),
}


def _accuracy(manifest: Manifest) -> list[str]:
    return [
        "## Measured",
        "",
        "| protocol | value | 95 % interval | n | seed | command |",
        "|---|---|---|---|---|---|",
        *(_row(measurement) for measurement in manifest.accuracy),
        "",
        "Intervals are bootstrapped over runs or alphabets, not over trials; ties count as wrong.",
    ]


def _calibration(manifest: Manifest) -> list[str]:
    calibration = manifest.calibration
    points = [fmr for fmr in OPERATING_POINTS if fmr >= calibration.errors.smallest_fmr]
    return [
        "## Calibration",
        "",
        f"Method `{calibration.method}` (least log-loss of three, cross-validated over classes), prior "
        f"{calibration.prior:g}, on {calibration.source}: {calibration.n_classes} classes, "
        f"{calibration.errors.n_genuine:,} pairs of one class and {calibration.errors.n_impostor:,} of two. "
        f"Log-loss {calibration.quality.log_loss:.4f}, expected calibration error "
        f"{100 * calibration.quality.ece:.2f} %.",
        "",
        "| false-match rate of a pair (FMR) | similarity threshold | false non-match rate (FNMR), 95 % interval |",
        "|---|---|---|",
        *(_operating_point(manifest, fmr) for fmr in points),
    ]


def _held_out(manifest: Manifest) -> list[str]:
    data = manifest.recipe.get("data")
    names = data.get("held_out") if isinstance(data, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _row(measurement: Measurement) -> str:
    seed = "" if measurement.seed is None else str(measurement.seed)
    value = f"{measurement.value:g} {measurement.unit}"
    interval = f"{measurement.low:g} to {measurement.high:g}"
    return f"| {measurement.protocol} | {value} | {interval} | {measurement.n:,} | {seed} | `{measurement.command}` |"


def _operating_point(manifest: Manifest, fmr: float) -> str:
    calibration = manifest.calibration
    fnmr, low, high = calibration.errors.fnmr_at(calibration.errors.distance_at_fmr(fmr))
    return f"| {fmr:g} | {calibration.threshold_at_fmr(fmr):.4f} | {fnmr:.4f}, {low:.4f} to {high:.4f} |"
