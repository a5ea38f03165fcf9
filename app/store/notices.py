"""Detects commits of other processes on PostgreSQL. NOTIFY is a hint; the log position is the truth.

Each transaction with changes sends a notice (`Listener.notice`), which the server delivers when it commits. A notice
can be lost with its connection, or in a pooler. So the listener also reads the log's head, after connecting and once
per second. It also tracks whether the server can be reached.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from app.telemetry.logs import get_logger

log = get_logger(__name__)

_CHANNEL = "oneshot"
#: Interval between reads of the log's head.
LOOK_SECONDS = 1.0
#: After this long without an answer, the present state of the store counts as unknown.
SILENT_SECONDS = 5.0
#: Interval between attempts to connect.
_RETRY_SECONDS = 0.25
_HEAD = "SELECT (SELECT max(seq) FROM changes), (SELECT value FROM meta WHERE key = 'model')"


class Listener:
    """A thread with its own connection, and a number that changes with every commit it detects.

    `engine` must connect in autocommit mode. Methods may be called from any thread.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._node = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._version = 0
        self._written = 0
        self._head: object = None
        self._heard_at = time.monotonic()
        self._lost = False
        self._started = False
        self._closing = False
        self._bell, self._rope = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._heard_at = time.monotonic()
        self._thread.start()
        self._started = True

    @property
    def version(self) -> int:
        """A number that changes with every detected commit."""
        return self._version

    @property
    def written(self) -> int:
        """The number of the latest log entry that this process wrote."""
        return self._written

    def age(self) -> float:
        """For how many seconds the server has been silent; 0 while it answers."""
        silent = time.monotonic() - self._heard_at if self._started else 0.0
        return silent if self._lost or silent > SILENT_SECONDS else 0.0

    def notice(self, connection: sa.Connection, number: int) -> None:
        """Notify the other processes when the connection's transaction commits."""
        payload = f"{self._node} {number}"
        connection.execute(sa.select(sa.func.pg_notify(_CHANNEL, payload)))

    def committed(self, number: int) -> None:
        """Count a commit of this process. Its own notices are ignored."""
        with self._lock:
            self._version += 1
            self._written = max(self._written, number)

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._rope.send(b".")
        if self._thread.is_alive():
            self._thread.join(5)
        self._bell.close()
        self._rope.close()

    def _run(self) -> None:
        broken = (sa.exc.DBAPIError, self._engine.dialect.loaded_dbapi.Error, OSError)
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._closing:
                try:
                    with self._engine.connect() as connection:
                        self._follow(connection, selector)
                except broken as error:
                    if not self._lost:
                        log.warning("store_lost", reason=one_line(error))
                    self._lost = True
                    selector.select(_RETRY_SECONDS)

    def _follow(self, connection: sa.Connection, selector: selectors.BaseSelector) -> None:
        connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
        self._tick()  # commits may have been missed
        driver: Any = connection.connection.driver_connection
        with _registered(selector, driver.fileno()):
            while not self._closing:
                head = connection.exec_driver_sql(_HEAD).one()
                if self._head != head:
                    self._head = head
                    self._tick()
                self._hear()
                look_again = time.monotonic() + LOOK_SECONDS
                while not self._closing and (left := look_again - time.monotonic()) > 0:
                    self._take_notices(driver)  # including those that came with the answer above
                    selector.select(left)

    def _take_notices(self, driver: Any) -> None:
        for notice in driver.notifies(timeout=0):
            self._hear()
            if not notice.payload.startswith(self._node):
                self._tick()

    def _hear(self) -> None:
        self._heard_at = time.monotonic()
        if self._lost:
            log.info("store_found")
        self._lost = False

    def _tick(self) -> None:
        with self._lock:
            self._version += 1


@contextmanager
def _registered(selector: selectors.BaseSelector, file: int) -> Iterator[None]:
    selector.register(file, selectors.EVENT_READ)
    try:
        yield
    finally:
        selector.unregister(file)


def one_line(error: BaseException) -> str:
    """The driver's message on one line."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return " ".join(str(cause).split())
