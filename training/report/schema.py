"""The schema of ``report.json``: every figure with its n, interval and seed, and the origin of the report."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

REPORT_FILE = "report.json"


class ReportError(ValueError):
    """The file is not a report; ``str(error)`` is one line that says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """A rate in percent, with its 95 % interval, bootstrapped over ``over``."""

    key: str = Field(description="Names the protocol in tables, such as all-drawers.")
    protocol: str
    value: float
    low: float
    high: float
    n: int = Field(gt=0)
    over: str = Field(description="What the interval is bootstrapped over, such as '20 alphabets'.")
    seed: int | None = None
    better: Literal["higher", "lower"] = "higher"


class Point(_Part):
    """A measured rate, from 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


class WayPoint(_Part):
    """One-shot accuracy among ``n_way`` classes."""

    n_way: int
    accuracy: Point
    n: int


class Verification(_Part):
    """Error rates of pairs over all thresholds; ``name`` is the kind of impostor pair."""

    name: str
    n_genuine: int
    n_impostor: int
    distances: tuple[float, ...]
    fmr: tuple[float, ...]
    fnmr: tuple[float, ...]
    eer: Point
    fnmr_at: dict[str, Point] = Field(description="By the FMR that is allowed.")


class OpenSet(_Part):
    """Galleries of ``size`` classes: FPIR (strangers identified), FNIR (enrolled classes not identified correctly)."""

    size: int
    target: float = Field(description="The FPIR that the calibration was asked for.")
    fpir: Point
    fnir: Point
    auroc: float
    oscr: float
    n_known: int
    n_strangers: int
    curve_fpir: tuple[float, ...]
    curve_fnir: tuple[float, ...]


class Reliability(_Part):
    """Predicted probability against the observed share of pairs of one class, at prior 0.5."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    ece: float
    log_loss: float
    n: int


class Mistake(_Part):
    """A one-shot trial with a wrong nearest support; pictures are data URIs, empty if left out."""

    truth: str
    chosen: str
    distance_truth: float
    distance_chosen: float
    query_image: str = ""
    truth_image: str = ""
    chosen_image: str = ""


class Map(_Part):
    """A 2D projection of the classes' mean embeddings; ``sprites`` is a sheet of their pictures."""

    method: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    group: tuple[int, ...]
    groups: tuple[str, ...]
    sprites: str = ""
    sprite_side: int = 0
    sprite_columns: int = 1


class Look(_Part):
    """A point of the training curve: the mean loss since the previous one, and the held-out error if evaluated."""

    step: int
    loss: float
    seconds: float
    learning_rate: float
    error: float | None = None


class Cost(_Part):
    """The speed of embedding on this machine: one thread, the service's engine, the median of ``rounds``."""

    engine: str
    images_per_second: float
    slowest: float
    fastest: float
    batch: int
    rounds: int


class Origin(_Part):
    """What was measured, and on which machine, when and how."""

    name: str
    model_id: str
    digest: str
    network: str
    parameters: int
    bytes: int
    dim: int
    similarity: str
    input: str
    recipe: dict[str, JsonValue]
    training_seed: int | None
    training_minutes: float | None
    data: str
    part: Literal["evaluation", "held-out"] = Field(description="Published figures are of the evaluation set.")
    group: str = Field(default="alphabet", description="What classes that look alike are grouped by.")
    command: str
    date: datetime
    machine: str
    threads: int
    versions: dict[str, str]


class Report(_Part):
    """One evaluation of one artefact."""

    format_version: Literal[1] = 1
    origin: Origin
    figures: tuple[Figure, ...]
    cost: Cost
    within_way: tuple[WayPoint, ...] = Field(description="Classes of one group.")
    across_way: tuple[WayPoint, ...] = Field(description="Classes of all groups.")
    verification: tuple[Verification, ...]
    open_set: tuple[OpenSet, ...]
    reliability: Reliability
    mistakes: tuple[Mistake, ...]
    n_mistakes: int
    map: Map | None
    history: tuple[Look, ...]

    @model_validator(mode="before")
    @classmethod
    def _of_one_view(cls, content: Any) -> Any:
        """Drop figures that earlier releases measured with several views of each image."""
        rows = content.get("figures") if isinstance(content, dict) else None
        if not rows or not all(isinstance(row, dict) for row in rows):
            return content
        figures = [{**row} for row in rows if row.get("views", 1) == 1]
        for row in figures:
            row.pop("views", None)
        return {**content, "figures": figures}

    def without_pictures(self) -> Report:
        """Return the report without images of the data: small, and free to redistribute."""
        blank = {"query_image": "", "truth_image": "", "chosen_image": ""}
        return self.model_copy(
            update={
                "mistakes": tuple(mistake.model_copy(update=blank) for mistake in self.mistakes),
                "map": self.map and self.map.model_copy(update={"sprites": ""}),
            }
        )

    def figure(self, key: str) -> Figure | None:
        """Return the figure with this key, or None if it was not measured."""
        return next((figure for figure in self.figures if figure.key == key), None)

    def write(self, file: Path) -> None:
        """Write it as JSON with one part per line; numbers are rounded to seven digits, more than their precision."""
        file.parent.mkdir(parents=True, exist_ok=True)
        content = _short(self).model_dump(mode="json")
        lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in content.items()]
        file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_report(file: Path) -> Report:
    """Read a report.

    Raises:
        ReportError: the file is missing, or is not a report.
    """
    try:
        return Report.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ReportError(f"{file} is no report: {error.errors()[0]['msg']}") from error


def _short(report: Report) -> Report:
    def rounded(value: object) -> object:
        if isinstance(value, float):
            return float(f"{value:.7g}")
        if isinstance(value, dict):
            return {key: rounded(part) for key, part in value.items()}
        return [rounded(part) for part in value] if isinstance(value, list | tuple) else value

    return Report.model_validate(rounded(report.model_dump()))
