"""The names of headers that the service and its client must agree on."""

from __future__ import annotations

#: In the answer to a write: how far the store's change log has come with it.
VERSION = "Oneshot-Version"
#: In a request: how far the process that answers must have followed that log.
MIN_VERSION = "Oneshot-Min-Version"
