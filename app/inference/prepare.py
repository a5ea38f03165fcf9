"""Turns an uploaded file into the network's input, or into an error that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from app.errors import (
    BadImageError,
    BlankImageError,
    EmptyImageError,
    OneshotError,
    OverloadedError,
    TooManyPixelsError,
    UndecodableImageError,
    UnsupportedImageError,
)
from app.inference.images import PreparedImage, Upload
from app.inference.protocols import Network
from model import images

T = TypeVar("T")

_ERRORS: dict[type[images.ImageError], type[BadImageError]] = {
    images.EmptyImageError: EmptyImageError,
    images.UnsupportedFormatError: UnsupportedImageError,
    images.CorruptImageError: UndecodableImageError,
    images.TooManyPixelsError: TooManyPixelsError,
}


def prepare(network: Network, limits: images.ImageLimits, upload: Upload) -> PreparedImage:
    """Decode the image and turn it into the network's input.

    Raises BadImageError, which names the upload's field, and OverloadedError when memory is short.
    """

    def seen() -> PreparedImage | None:
        image = images.decode_image(upload.data, limits)
        prepared = network.prepare(image)
        if not network.shows_something(image, prepared):
            return None
        return PreparedImage(prepared, images.MEDIA_TYPES[str(image.format)])

    picture = _told_of(upload, seen)
    if picture is None:
        raise BlankImageError("there is nothing to see in it: all of it has nearly the same shade", upload.field)
    return picture


def prepare_again(network: Network, limits: images.ImageLimits, upload: Upload) -> PreparedImage:
    """`prepare` for an image that was accepted before. Does not refuse it, even if `prepare` would by now."""

    def prepared() -> PreparedImage:
        image = images.decode_image(upload.data, replace(limits, max_side=limits.max_pixels))
        return PreparedImage(network.prepare(image), images.MEDIA_TYPES[str(image.format)])

    return _told_of(upload, prepared)


def _told_of(upload: Upload, work: Callable[[], T]) -> T:
    """Return the result of `work` on an image, or raise the error that the client gets.

    It is raised without its cause, and after the image is freed. An error may outlive its request by minutes, and its
    traceback keeps the local variables of every function, up to 8 bytes per pixel.
    """
    try:
        return work()
    except images.ImageError as error:
        failure: OneshotError = _ERRORS.get(type(error), BadImageError)(str(error), upload.field)
    except MemoryError:
        failure = OverloadedError(f"{upload.field}: there is no memory for it now; try again in a moment.")
    raise failure
