"""The training curve, kept as JSON lines beside the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from training.loop import Progress
from training.report.schema import Look

HISTORY_FILE = "history.jsonl"
EVERY = 20
"""Steps per line; a step that evaluates the held-out classes also ends a line."""


class History:
    """Listens to a run and appends to ``history.jsonl`` in ``folder``; a resumed run drops the lines it will repeat."""

    def __init__(self, folder: Path, every: int = EVERY) -> None:
        self._file = folder / HISTORY_FILE
        self._every = every
        self._losses: list[float] = []
        self._before = 0.0
        self._started = False

    def __call__(self, progress: Progress) -> None:
        """Record one step."""
        if not self._started:
            self._resume(progress.step)
        self._losses.append(progress.loss)
        if progress.step % self._every == 0 or progress.error is not None or progress.step == progress.steps:
            look = Look(
                step=progress.step,
                loss=sum(self._losses) / len(self._losses),
                seconds=self._before + progress.seconds,
                learning_rate=progress.learning_rate,
                error=progress.error,
            )
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(look.model_dump_json() + "\n")
            self._losses.clear()

    def _resume(self, first: int) -> None:
        self._started = True
        kept = [look for look in read_history(self._file.parent) if look.step < first]
        self._before = kept[-1].seconds if kept else 0.0
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("".join(look.model_dump_json() + "\n" for look in kept), encoding="utf-8")


def read_history(folder: Path) -> tuple[Look, ...]:
    """Return the looks of the run in ``folder``, in order; empty if it has no history file."""
    file = folder / HISTORY_FILE
    if not file.exists():
        return ()
    return tuple(Look.model_validate(json.loads(line)) for line in file.read_text("utf-8").splitlines() if line)
