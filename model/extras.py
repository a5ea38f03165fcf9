"""The error line for a feature whose extra is not installed."""

from __future__ import annotations

from importlib.util import find_spec


def without_ray(asked: str, extras: str = "ray") -> str | None:
    """One line saying that ``asked`` needs Ray and which extras to install; None if Ray is installed."""
    if find_spec("ray") is not None:
        return None
    return f"{asked} needs Ray, which is not installed: pip install 'oneshot[{extras}]'"
