"""Why an image can't be used, and what it may cost.

ImageError
├── EmptyImageError         no bytes at all
├── UnsupportedFormatError  not one of the accepted formats, or an unusual kind of one
├── CorruptImageError       such a format, but it cannot be decoded
└── TooManyPixelsError      more pixels than allowed, or a longer side; found before decoding them
"""

from __future__ import annotations

from dataclasses import dataclass


class ImageError(ValueError):
    """The bytes are not an image that can be used; ``str(error)`` says why."""


class EmptyImageError(ImageError):
    """There are no bytes."""


class UnsupportedFormatError(ImageError):
    """The bytes are of no accepted format, or of a kind of it that is not supported."""


class CorruptImageError(ImageError):
    """The format is accepted, but the image cannot be decoded."""


class TooManyPixelsError(ImageError):
    """The image has more pixels than the limit, or a longer side."""


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost: ``max_pixels`` is width x height; both are checked before the pixels are decoded.

    Each row takes memory of its own, so that 1 x 40,000,000 pixels would take thirty times the bytes of a square.
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
