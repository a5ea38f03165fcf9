"""Errors for unusable images, and limits on their size.

ImageError
├── EmptyImageError         no bytes
├── UnsupportedFormatError  not an accepted format, or an unsupported variant of one
├── CorruptImageError       an accepted format, but the image cannot be decoded
└── TooManyPixelsError      more pixels or a longer side than allowed; checked before decoding
"""

from __future__ import annotations

from dataclasses import dataclass


class ImageError(ValueError):
    """The bytes are not a usable image; ``str(error)`` says why."""


class EmptyImageError(ImageError):
    """There are no bytes."""


class UnsupportedFormatError(ImageError):
    """The bytes are not of an accepted format, or of an unsupported variant of one."""


class CorruptImageError(ImageError):
    """The format is accepted, but the image cannot be decoded."""


class TooManyPixelsError(ImageError):
    """The image has more pixels than the limit, or a longer side."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits on an image's size: ``max_pixels`` is width x height. Both are checked before the pixels are decoded.

    Each row has a memory overhead, so 1 x 40,000,000 pixels would take thirty times the memory of a square.
    """

    max_pixels: int = 40_000_000
    max_side: int = 20_000

    def check(self, width: int, height: int) -> None:
        """Raise TooManyPixelsError for an image that is larger."""
        if width * height > self.max_pixels:
            raise TooManyPixelsError(
                f"the image is {width}x{height} = {width * height} pixels; at most {self.max_pixels} are accepted"
            )
        if max(width, height) > self.max_side:
            raise TooManyPixelsError(
                f"the image is {width}x{height} pixels; at most {self.max_side} are accepted on each side"
            )
