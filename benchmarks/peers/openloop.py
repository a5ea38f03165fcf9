"""Open-loop load: requests are sent at their due times, whether or not earlier ones have been answered.

wrk waits for an answer before it sends the next request, so it cannot overload a service. Open-loop generators are not
in the registries that this project installs from. One asyncio process is enough for the rates here. Its CPU time is
reported, because it shares the cores with the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

MOST_CONNECTIONS = 2000


@dataclass(frozen=True)
class Outcome:
    """The outcomes of the requests; latencies in milliseconds, from the time at which a request was due."""

    rate: float
    sent: int
    answered: int
    refused: int
    refused_with_retry_after: int
    other: int
    goodput: float
    p50: float
    p99: float
    refused_p50: float
    refused_p99: float
    generator_cpu: float


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request in flight."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._due = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the interface, but not the base class

    def ask(self, body: bytes, due: float) -> None:
        """Send one request."""
        self._due = due
        self._transport.write(body)

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = b""
        self._load.answered(int(head[9:12]), b"\r\nretry-after:" in lower, self._due)
        self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._load.lost(self)


class _Load:
    def __init__(self, host: str, port: int, requests: Sequence[bytes]) -> None:
        self._host, self._port, self._requests = host, port, requests
        self.idle: list[_Connection] = []
        self._open = 0
        self._all: list[_Connection] = []
        self.good: list[float] = []
        self.refused: list[float] = []
        self.told = 0
        self.other = 0

    async def connect(self) -> None:
        """Open one more connection."""
        self._open += 1
        _, made = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self._host, self._port)
        self.idle.append(made)
        self._all.append(made)

    def answered(self, status: int, retry_after: bool, due: float) -> None:
        """Count an answer."""
        late = 1000 * (time.perf_counter() - due)
        if status == 200:
            self.good.append(late)
        elif status == 503:
            self.refused.append(late)
            self.told += retry_after
        else:
            self.other += 1

    def lost(self, connection: _Connection) -> None:
        """Remove a connection that the server closed."""
        self._open -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    async def run(self, rate: float, seconds: float) -> int:
        """Send `rate` requests per second for `seconds`; returns their number."""
        for _ in range(64):
            await self.connect()
        began, sent, total = time.perf_counter(), 0, int(rate * seconds)
        while sent < total:
            due = began + sent / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if not self.idle and self._open < MOST_CONNECTIONS:
                await self.connect()
            if self.idle:
                self.idle.pop().ask(self._requests[sent % len(self._requests)], due)
            else:
                self.other += 1
            sent += 1
        await asyncio.sleep(2)
        for each in self._all:
            each.close()
        await asyncio.sleep(0.1)
        return sent


def drive(url: str, bodies: Sequence[bytes], rate: float, seconds: float) -> Outcome:
    """Post raw `bodies` to `/classify`, `rate` a second for `seconds`."""
    host, port = url.removeprefix("http://").split(":")
    head = "POST /classify HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n"
    load = _Load(host, int(port), [head.format(host, len(body)).encode() + body for body in bodies])
    cpu = time.process_time()
    sent = asyncio.run(load.run(rate, seconds))
    good, refused = (np.array(times or [np.nan]) for times in (load.good, load.refused))
    return Outcome(
        rate=rate,
        sent=sent,
        answered=len(load.good),
        refused=len(load.refused),
        refused_with_retry_after=load.told,
        other=load.other + sent - len(load.good) - len(load.refused) - load.other,
        goodput=len(load.good) / seconds,
        p50=float(np.median(good)),
        p99=float(np.quantile(good, 0.99)),
        refused_p50=float(np.median(refused)),
        refused_p99=float(np.quantile(refused, 0.99)),
        generator_cpu=(time.process_time() - cpu) / seconds,
    )
