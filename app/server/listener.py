"""uvicorn's server with a graceful stop: refuse new connections first, then answer every request."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import struct
import threading
from contextlib import suppress

import uvicorn

from app.allocator import keep_what_is_there
from app.lifecycle import Lifecycle
from app.server.heartbeat import Heart
from app.telemetry.logs import get_logger

log = get_logger(__name__)

#: A keep-alive connection that is silent for this long after the signal is closed. Its client may be idle for hours.
_IDLE_SECONDS = 1.0
_POLL_SECONDS = 0.02
#: Most connections accepted in one turn of the loop. Not all: other processes may have more time for them.
_AT_ONCE = 16
#: The system has no room for another connection, and retrying at once won't help.
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS = 1.0
#: Exit code of a process that ended while its threads were still working.
_UNFINISHED = 1
#: Linux: SO_ATTACH_FILTER, and a packet filter of one instruction that drops everything.
_ATTACH_FILTER, _DROP_ALL = 26, struct.pack("HBBI", 0x06, 0, 0, 0)


def let_nobody_in(listening: socket.socket) -> None:
    """Refuse new connections for all processes that share the socket. Those already queued stay.

    A client may connect between the last accept and the close of the socket. The kernel would then reset that
    connection after its request has been sent. With the filter, the client's handshake is dropped instead, and its next
    attempt finds the port closed. Systems without such a filter keep that gap.
    """
    program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def _end_after(seconds: float) -> None:
    """End the process after `seconds`, if it still runs. A thread in a decoder or a driver can't be stopped."""

    def end() -> None:
        log.error("ended_hard", seconds=seconds, threads=[each.name for each in threading.enumerate()])
        os._exit(_UNFINISHED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


class DrainingServer(uvicorn.Server):
    """Stops in steps: accept no new connections; close each connection after its answer; finish requests in flight.

    The process ends at most `last` seconds after the signal, whatever its threads do; None waits for them.

    uvicorn itself closes keep-alive connections at once, even one on which a request was just sent, and drops
    connections that wait to be accepted.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        alone: bool = True,
        last: float | None = None,
        heart: Heart | None = None,
    ) -> None:
        """`alone`: no other process accepts from the same socket. `heart` beats while the loop runs."""
        super().__init__(config)
        self._lifecycle, self._alone, self._last, self._heart = lifecycle, alone, last, heart
        self._connecting: set[asyncio.Task[object]] = set()
        lifecycle.on_failure(self._stop)

    def _stop(self) -> None:
        self.should_exit = True  # the main loop checks ten times a second

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections.

        uvloop accepts one connection in each turn of the loop. The turns of a busy loop are long, and clients would
        wait for seconds to be refused.
        """
        if self._heart is not None:
            self._heart.beat(asyncio.get_running_loop())
        await super().startup(sockets=[])
        for listening in sockets or []:
            listening.setblocking(False)
            listening.listen(self.config.backlog)
            self._listen(listening)
        keep_what_is_there()

    def _listen(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0 and not self._lifecycle.draining:
            asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            for _ in range(_AT_ONCE):
                self._connect(listening.accept()[0])
        except OSError as error:
            if error.errno in _NO_MORE:
                log.warning("out_of_connections", reason=str(error))
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening.fileno())
                loop.call_later(_PAUSE_SECONDS, self._listen, listening)

    def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[object]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()):  # the client is gone already
            log.debug("not_connected", reason=str(error))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then end."""
        self._lifecycle.draining = True
        if self._last is not None:
            _end_after(self._last)
        waiting = [listening.dup() for listening in sockets or []]  # keeps the queue open when uvicorn closes its own
        for line in waiting if self._alone else ():
            let_nobody_in(line)
        for listening in sockets or []:
            asyncio.get_running_loop().remove_reader(listening.fileno())
            listening.close()
        for line in waiting:
            await self._take_last(line)
        await self._drain()
        log.info("draining", connections=len(self.server_state.connections), requests=len(self.server_state.tasks))
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled at the limit; by now they know the outcome of their writes
            await asyncio.wait(self.server_state.tasks, timeout=_IDLE_SECONDS)

    async def _take_last(self, line: socket.socket) -> None:
        """Accept the connections that are already queued."""
        with line, suppress(OSError):  # no more of them
            while True:
                self._connect(line.accept()[0])
        while self._connecting:
            await asyncio.wait(self._connecting)

    def _protocol(self) -> asyncio.Protocol:
        kind = self.config.http_protocol_class
        return kind(  # type: ignore[call-arg]  # uvicorn's own protocols, as its startup makes them
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _drain(self) -> None:
        """Wait for requests in transit on keep-alive connections; each answer closes its connection."""
        end = asyncio.get_running_loop().time() + _IDLE_SECONDS
        while self.server_state.connections and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - no event
            await asyncio.sleep(_POLL_SECONDS)
