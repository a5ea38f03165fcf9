"""Runs the server: one process, or several worker processes that share a port and a data folder."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from weakref import WeakSet

from app.allocator import give_large_blocks_back
from app.errors import StartupError
from app.server.heartbeat import Heart, Watch
from app.settings import Settings, variable
from app.telemetry.worker_metrics import shared_by_workers
from model.extras import without_ray

#: Exit code of a start that can't succeed; one line on stderr says why.
CANNOT_START = 2
#: Exit code of a process that can't go on; a supervisor starts another.
FAILED = 1
#: A dead worker is restarted after a pause, so that one that dies at once does not spin. The pause doubles as long as
#: a worker can't start.
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 10.0
#: Time from a worker's start to its first beat. It has to load its libraries.
_START_SECONDS = 300.0
#: A supervisor that did not look for this long was stopped itself, perhaps together with its workers.
_GAP_SECONDS = 5.0
#: Time that a process may take to end, beyond its limit for requests in flight: for a commit in progress, its last
#: batch, its logs. A decoder that still works then ends with it.
_LAST_SECONDS = 8.0
#: Time that a supervisor gives its workers beyond their limit for requests in flight.
_STOP_MARGIN_SECONDS = 10.0


def serve(settings: Settings) -> int:
    """Serve until interrupted; returns the exit code. Raises StartupError when the address can't be listened on."""
    if settings.engine == "ray" and (why := without_ray(f"{variable('engine')}=ray")):
        raise StartupError(why)
    listening = bind(settings)
    if settings.engine == "ray":
        from app.on_ray.serving import serve_on_ray  # noqa: PLC0415 - an extra

        return serve_on_ray(settings, listening)
    if settings.workers == 1:
        return run_server(settings, listening)
    return _Supervisor(settings, listening).run()


def run_server(settings: Settings, listening: socket.socket, *, wait: bool = True, heart: Heart | None = None) -> int:
    """Serve in this process until interrupted; returns the exit code.

    `wait`: whether to wait for the store's database. `heart` beats while the event loop runs.
    """
    from app.telemetry.logs import configure_logging  # noqa: PLC0415 - heavy imports only when serving

    configure_logging(settings.log_level, settings.log_format)
    give_large_blocks_back()
    os.environ.setdefault("OTEL_SERVICE_NAME", "oneshot")
    import uvicorn  # noqa: PLC0415

    from app.api.application import create_app  # noqa: PLC0415
    from app.server.connections import guarded  # noqa: PLC0415
    from app.server.listener import DrainingServer  # noqa: PLC0415

    app = create_app(settings, wait=wait)
    _exit_cleanly_on_sigterm()
    # a start that fails for a known reason prints one line; uvicorn would add lines of its own
    logging.getLogger("uvicorn.error").addFilter(lambda _record: not hasattr(app.state, "startup_error"))
    config = uvicorn.Config(
        app,
        http=guarded(settings),
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    app.state.url = _url(listening)  # logged once the service is ready
    last = settings.shutdown_timeout + _LAST_SECONDS
    server = DrainingServer(config, app.state.lifecycle, settings.workers == 1, last, heart)
    # after its shutdown uvicorn raises the signal again, as one of these
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run(sockets=[listening])
    if error := getattr(app.state, "startup_error", None):
        sys.stderr.write(f"oneshot: {error.detail}\n")
        return CANNOT_START
    return 0 if server.started and app.state.lifecycle.failed is None else FAILED


def _exit_cleanly_on_sigterm() -> None:
    """While the server runs it handles the signal. Before and after, the process just exits."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def bind(settings: Settings) -> socket.socket:
    """Bind the port before anything else, so that a wrong address fails at once. Raises StartupError."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        _refuse_to_be_open(settings, str(address[0]))
        with contextlib.ExitStack() as undo:
            listening = undo.enter_context(socket.socket(family, kind))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            undo.pop_all()
    except OSError as error:
        where = f"{variable('host')}={settings.host} {variable('port')}={settings.port}"
        raise StartupError(f"{where}: can't listen there: {error.strerror or error}") from error
    return listening


def _refuse_to_be_open(settings: Settings, address: str) -> None:
    if settings.api_keys == "on" or settings.insecure or ip_address(address.partition("%")[0]).is_loopback:
        return
    raise StartupError(
        f"{variable('host')}={settings.host} can be reached by other machines, and no keys are asked for: "
        f"set {variable('api_keys')}=on and make a key with 'oneshot keys create', or give --insecure to mean it"
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@dataclass(frozen=True)
class _Worker:
    """A process that serves."""

    process: SpawnProcess
    heart: Heart
    started: float


class _Supervisor:
    """Keeps `workers` processes serving one socket, and stops them on a signal.

    A worker that dies is replaced. One without a heartbeat is killed first. If one of the first workers can't start for
    a known reason, which it has printed, all stop. A replacement that can't start is tried again while the others go
    on. It doesn't wait for the store's database, because it would accept requests meanwhile.
    """

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._watch = Watch(_GAP_SECONDS)
        self._killed = WeakSet[SpawnProcess]()
        self._stopping = threading.Event()
        self._first: set[int | None] = set()
        self._pause = _PAUSE_SECONDS

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with shared_by_workers():
            return self._serve()

    def _serve(self) -> int:
        self._listening.listen(2048)
        self._workers = [self._start(wait=True) for _ in range(self._settings.workers)]
        self._first = {worker.process.pid for worker in self._workers}
        code = 0
        while not self._stopping.is_set():
            wait([worker.process.sentinel for worker in self._workers], timeout=0.5)
            self._kill_silent()
            dead = [worker.process for worker in self._workers if not worker.process.is_alive()]
            if dead and not self._stopping.is_set():
                code = self._replace(dead)
        self._end()
        return code

    def _start(self, *, wait: bool) -> _Worker:
        heart = Heart(self._context)
        what = (self._settings, self._listening, wait, heart)
        process = self._context.Process(target=_work, args=what, name="oneshot-worker")
        process.start()
        return _Worker(process, heart, time.monotonic())

    def _kill_silent(self) -> None:
        """Kill workers that were stopped or hang. They are replaced like any that died."""
        self._watch.look()
        for worker in self._workers:
            limit = _START_SECONDS if worker.heart.last is None else self._settings.worker_timeout
            silent = self._watch.silent(worker.heart.last or worker.started)
            if silent > limit and worker.process not in self._killed:
                told = f"worker {worker.process.pid} has given no sign of life for {silent:.0f} seconds"
                sys.stderr.write(f"oneshot: {told}; killing it\n")
                worker.process.kill()
                self._killed.add(worker.process)

    def _replace(self, dead: list[SpawnProcess]) -> int:
        unable = [worker for worker in dead if worker.exitcode == CANNOT_START]
        if any(worker.pid in self._first for worker in unable):
            self._stopping.set()
            return CANNOT_START
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - not before the variable is set

        for worker in dead:
            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
            sys.stderr.write(f"oneshot: worker {worker.pid} died with exit code {worker.exitcode}; starting another\n")
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS) if unable else _PAUSE_SECONDS
        if not self._stopping.wait(self._pause):
            self._workers = [
                worker if worker.process.is_alive() else self._start(wait=False) for worker in self._workers
            ]
        return 0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def _end(self) -> None:
        from app.server.listener import let_nobody_in  # noqa: PLC0415

        let_nobody_in(self._listening)
        self._listening.close()  # each worker has its own handle, and accepts what is still queued
        processes = [worker.process for worker in self._workers]
        for process in processes:
            if process.is_alive():
                process.terminate()
        deadline = time.monotonic() + self._settings.shutdown_timeout + _STOP_MARGIN_SECONDS
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()


def _work(settings: Settings, listening: socket.socket, wait: bool, heart: Heart) -> None:
    """One worker process."""
    if settings.threads is None:  # else each would use all cores
        settings = settings.model_copy(update={"threads": max(1, (os.cpu_count() or 1) // settings.workers)})
    threading.Thread(target=_follow_parent, args=(os.getppid(), _terminate), daemon=True).start()
    sys.exit(run_server(settings, listening, wait=wait, heart=heart))


def _follow_parent(parent: int, stop: Callable[[], None]) -> None:
    """Stop a worker whose supervisor is gone. It would keep the port forever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    stop()


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
