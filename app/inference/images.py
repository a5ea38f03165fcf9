"""An image on its way through the network: as it was sent, as the network takes it, and as its vector."""

from __future__ import annotations

from dataclasses import dataclass

from model.distances import Vectors
from model.preprocess import Prepared


@dataclass(frozen=True)
class Upload:
    """An image as it was sent; `field` is its name in error messages."""

    data: bytes
    field: str


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image as the network takes it, shape (C, S, S), and the media type of its file."""

    pixels: Prepared
    media_type: str


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image's vector in index form, shape (D,), and the media type of its file."""

    vector: Vectors
    media_type: str
