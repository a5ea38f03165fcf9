"""Data, divided: classes to train on, and classes to choose and calibrate by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from training.data.labelled import Drawings, LabelledImages


@dataclass(frozen=True)
class Division:
    """Images of the classes to train on and of the held-out ones; ``source`` says in words what is held out."""

    training: LabelledImages
    """Where there are ``drawings``, a sample of pictures of them."""
    held_out: LabelledImages
    source: str
    n_way: int | None = None
    """Classes of a one-shot trial, within a group, by one source; None: trials over all held-out classes."""
    within_share: float | None = None
    """Share of pairs of different classes that are of one group where the model will be used; None: as held out."""
    drawings: Drawings | None = None
    """What a camera takes pictures of, to train on."""
    grounds: Tensor | None = None
    """Photographs (m, 3, side, side) to lay under the drawings."""
