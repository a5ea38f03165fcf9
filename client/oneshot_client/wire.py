"""Conventions between the service and its clients, besides the answers: names of headers, and numbers in them."""

from __future__ import annotations

import re
from urllib.parse import quote

_DIGITS = re.compile("[0-9]{1,19}")

#: The gallery of a request that names none.
DEFAULT_GALLERY = "default"
#: A problem's `type` is this prefix and its slug.
PROBLEM_PREFIX = "urn:oneshot:problem:"
#: In the answer to a write: the position of the store's change log after it.
VERSION = "Oneshot-Version"
#: In a request: the position of that log that the answering process must have reached.
MIN_VERSION = "Oneshot-Min-Version"
#: In a request to enrol: a unique name, which identifies the request when it is sent again.
IDEMPOTENCY_KEY = "Idempotency-Key"


def whole_number(text: str) -> int | None:
    """Parse 1 to 19 digits, else return None. For many more digits, `int` is slow and then raises."""
    return int(text) if _DIGITS.fullmatch(text) else None


def class_path(label: str) -> str:
    """The path of a class: its label as one percent-encoded segment."""
    return f"/classes/{quote(label, safe='')}"
