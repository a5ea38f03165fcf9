"""An image in three forms: as uploaded, as the network's input, and as a vector."""

from __future__ import annotations

from dataclasses import dataclass

from model.distances import Vectors
from model.preprocess import Prepared


@dataclass(frozen=True)
class Upload:
    """An image as uploaded; `field` names it in error messages."""

    data: bytes
    field: str


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """The network's input, shape (C, S, S), and the media type of the image's file."""

    pixels: Prepared
    media_type: str


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image's vector in index form, shape (D,), and the media type of its file."""

    vector: Vectors
    media_type: str
