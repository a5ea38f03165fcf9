"""The division of a data set into training classes and held-out classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from training.data.labelled import Drawings, LabelledImages


@dataclass(frozen=True)
class Division:
    """Images of the training classes and of the held-out classes; ``source`` describes the held-out ones in words."""

    training: LabelledImages
    """With ``drawings``, pictures of a sample of them."""
    held_out: LabelledImages
    source: str
    n_way: int | None = None
    """Classes in a validation trial within one group and source; None: trials over all held-out classes."""
    within_share: float | None = None
    """Share of impostor pairs within one group where the model will be used; None: the share in the held-out data."""
    drawings: Drawings | None = None
    """Drawings for the simulated camera to photograph during training."""
    grounds: Tensor | None = None
    """Photographs (m, 3, side, side) to place under the drawings."""
