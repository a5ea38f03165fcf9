"""When to ask again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The answers that say "not now".
RETRIED = frozenset({429, 503})


@dataclass(frozen=True)
class Retry:
    """Ask up to `attempts` times in all; `Retry(1)` never asks again.

    Only answers 429 and 503 are asked again: they say that nothing was done. The pause is what `Retry-After` says;
    without it `first` seconds, doubled each time. A little chance is added, so that many clients don't come back at
    once. A service that asks for more than `longest` seconds is not waited for: the error comes at once.
    """

    attempts: int = 5
    first: float = 0.25
    longest: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")

    def pause(self, failures: int, status: int, headers: Mapping[str, str]) -> float | None:
        """Seconds to wait after the `failures`-th failure in a row; None: don't ask again."""
        if status not in RETRIED or failures >= self.attempts:
            return None
        asked = retry_after(headers)
        pause = self.first * 2 ** (failures - 1) if asked is None else asked
        if pause > self.longest:
            return None if asked is not None else self.longest
        return pause + random.uniform(0, 0.25 * max(pause, self.first))  # noqa: S311 - spreads load, guards nothing


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a `Retry-After` header, given as seconds or as a date; None when there is none to understand."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
