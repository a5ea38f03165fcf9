"""Progress of a training run on the console."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from training.loop import Progress as Step


class ProgressBar:
    """Shows steps, images/s, time left, loss and held-out error; without a terminal, a line per validation."""

    def __init__(self, console: Console, name: str, steps: int) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._task: TaskID = self._bar.add_task(name, total=steps, rate="", note="reading images")
        self._error = ""

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, step: Step) -> None:
        """Show one step."""
        if step.error is not None:
            self._error = f", held-out error {100 * step.error:.2f} %"
        note = f"loss {step.loss:.3f}{self._error}"
        rate = f"{step.images / step.seconds:.0f} images/s"
        if step.error is not None and not self._console.is_terminal:
            self._console.print(f"step {step.step}/{step.steps}: {note}, {rate}")  # no bar in a log file
        self._bar.update(self._task, completed=step.step, rate=rate, note=note)
