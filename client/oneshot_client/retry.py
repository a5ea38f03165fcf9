"""When to retry a request, and after how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

#: Answers that say "not now".
RETRIED = frozenset({429, 503})
#: Answers after which it is unknown whether a change was made.
IN_DOUBT = frozenset({502, 504})
#: A 504 that is not in doubt: time ran out before anything was done, and a retry may take as long.
_IN_TIME = b"deadline-exceeded"
#: Thirty years. Waiting for much longer times raises an error.
_LONGEST = 1e9


@dataclass(frozen=True)
class Retry:
    """Retries a request up to `attempts` tries in all; `Retry(1)` never retries.

    Answers 429 and 503 are retried: they say that nothing was done. A request with an idempotency key is done once
    however often it is sent, so it is also retried when it is unknown whether it was done. The pause is that of
    `Retry-After`; without it, `first` seconds, doubled each time. A random part is added, so that many clients don't
    retry at once. If the service asks for more than `longest` seconds, the error is raised at once.
    """

    attempts: int = 5
    first: float = 0.25
    longest: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")

    def pause(self, failures: int, response: httpx.Response, *, keyed: bool = False) -> float | None:
        """Seconds to wait after the `failures`-th failure in a row, with this answer. None: don't retry."""
        doubtful = keyed and response.status_code in IN_DOUBT and _IN_TIME not in response.content
        if response.status_code not in RETRIED and not doubtful:
            return None
        return self._pause(failures, retry_after(response.headers))

    def pause_unanswered(self, failures: int, error: httpx.TransportError, *, keyed: bool) -> float | None:
        """`pause` for a failure without an answer. Only a broken connection is retried, and only with a key."""
        broken = isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)
        return self._pause(failures, None) if keyed and broken else None

    def _pause(self, failures: int, asked: float | None) -> float | None:
        if failures >= self.attempts:
            return None
        pause = self.first * 2 ** (failures - 1) if asked is None else asked
        if pause > self.longest:
            return None if asked is not None else self.longest
        return pause + random.uniform(0, 0.25 * max(pause, self.first))  # noqa: S311 - spreads load, guards nothing


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a `Retry-After` header, given as seconds or as a date. None without a valid one."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), _LONGEST)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, (date - datetime.now(UTC)).total_seconds()), _LONGEST)
