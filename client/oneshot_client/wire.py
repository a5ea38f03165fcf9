"""What the service and its clients agree on beside the answers: names of headers, and how numbers in them are read."""

from __future__ import annotations

import re
from urllib.parse import quote

_DIGITS = re.compile("[0-9]{1,19}")

#: The gallery of a request that names none.
DEFAULT_GALLERY = "default"
#: A problem's `type` is this and its slug.
PROBLEM_PREFIX = "urn:oneshot:problem:"
#: In the answer to a write: how far the store's change log has come with it.
VERSION = "Oneshot-Version"
#: In a request: how far the process that answers must have followed that log.
MIN_VERSION = "Oneshot-Min-Version"
#: In a request to enrol: a name for it, by which it is known when it is sent again.
IDEMPOTENCY_KEY = "Idempotency-Key"


def whole_number(text: str) -> int | None:
    """The number, if these are 1 to 19 digits and nothing else; of more digits `int` is slow, and then refuses."""
    return int(text) if _DIGITS.fullmatch(text) else None


def class_path(label: str) -> str:
    """The path of a class: its label as one percent-encoded segment."""
    return f"/classes/{quote(label, safe='')}"
