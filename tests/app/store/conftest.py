"""Each test of the store runs on both databases."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.store import SqlStore, postgres
from app.store.notices import LOOK_SECONDS
from testing.served import on_both_stores

pytest_generate_tests = on_both_stores


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it becomes true within `seconds`; on PostgreSQL another process's commit is seen with a delay."""
    give_up = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < give_up:
        time.sleep(0.002)
    return found


def settle(*stores: SqlStore) -> None:
    """Wait until the stores have been notified of all commits and have polled the log's head once more."""
    if any(isinstance(store.database, postgres.Database) for store in stores):
        time.sleep(LOOK_SECONDS + 0.2)
