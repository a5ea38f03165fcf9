"""From an uploaded file to the network's input, or to an error that says what is wrong with the file."""

from __future__ import annotations

from app.bulk import Picture
from app.errors import (
    BadImageError,
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
    try:
        image = images.decode_image(upload.data, limits)
        return Picture(network.prepare(image), images.MEDIA_TYPES[str(image.format)])
    except images.ImageError as error:
        raise _ERRORS.get(type(error), BadImageError)(str(error), upload.field) from error
    except MemoryError:  # its frames would hold what there is
        raise OverloadedError(f"{upload.field}: there is no memory for it now; try again in a moment.") from None
