"""Training curves for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.loop import Progress, TrainingError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog:
    """Writes a run's progress to event files in ``folder``: loss, learning rate, held-out error, speed.

    A run that resumes from a checkpoint purges what it had written of later steps.

    Raises:
        TrainingError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise TrainingError('TensorBoard is not installed; pip install "oneshot[tensorboard]"') from error
        self._make = SummaryWriter

    def __call__(self, progress: Progress) -> None:
        """Write one step."""
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=progress.step)
        values = {
            "loss": progress.loss,
            "learning rate": progress.learning_rate,
            "images per second": progress.images / progress.seconds,
            "held-out error": progress.error,
        }
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, progress.step)
        if progress.error is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()
