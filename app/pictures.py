"""From an uploaded file to the network's input, or to an error that says what is wrong with the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from app.bulk import Picture
from app.errors import (
    BadImageError,
    BlankImageError,
    EmptyImageError,
    OverloadedError,
    TooManyPixelsError,
    UndecodableImageError,
    UnsupportedImageError,
)
from app.network import Network
from app.uploads import Upload
from model import images

_ERRORS: dict[type[images.ImageError], type[BadImageError]] = {
    images.EmptyImageError: EmptyImageError,
    images.UnsupportedFormatError: UnsupportedImageError,
    images.CorruptImageError: UndecodableImageError,
    images.TooManyPixelsError: TooManyPixelsError,
}


def prepare(network: Network, limits: images.ImageLimits, upload: Upload) -> Picture:
    """The image as the network takes it.

    Raises BadImageError, naming the upload's field, and OverloadedError where there is no memory for it now.
    """
    with _told_of(upload):
        image = images.decode_image(upload.data, limits)
        prepared = network.prepare(image)
        if not network.shows_something(image, prepared):
            raise BlankImageError("there is nothing to see in it: all of it has nearly the same shade", upload.field)
        return Picture(prepared, images.MEDIA_TYPES[str(image.format)])


def prepare_again(network: Network, limits: images.ImageLimits, upload: Upload) -> Picture:
    """An image that was accepted once, as the network takes it, also where it would be refused now."""
    with _told_of(upload):
        image = images.decode_image(upload.data, replace(limits, max_side=limits.max_pixels))
        return Picture(network.prepare(image), images.MEDIA_TYPES[str(image.format)])


@contextmanager
def _told_of(upload: Upload) -> Iterator[None]:
    try:
        yield
    except images.ImageError as error:
        raise _ERRORS.get(type(error), BadImageError)(str(error), upload.field) from error
    except MemoryError:  # its frames would hold what there is
        raise OverloadedError(f"{upload.field}: there is no memory for it now; try again in a moment.") from None
