"""What is told to who asks for something that an extra brings, where that extra isn't installed."""

from __future__ import annotations

from importlib.util import find_spec


def without_ray(asked: str, extras: str = "ray") -> str | None:
    """One line that says why what was asked for can't be had, and which extras to install; None where Ray is there."""
    if find_spec("ray") is not None:
        return None
    return f"{asked} needs Ray, which is not installed: pip install 'oneshot[{extras}]'"
