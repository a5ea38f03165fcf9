"""`oneshot serve --engine ray`: runs the application in the cluster of RAY_ADDRESS, or in one that it starts."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

import ray
from ray import serve

from app.errors import StartupError
from app.home.model_shelf import ModelShelf
from app.on_ray.application import QUIET, build
from app.on_ray.nodes import absolute, form
from app.service.choose_model import choose_model, held_home
from app.settings import Settings, variable
from app.store import open_store
from app.telemetry.logs import configure_logging, get_logger
from model.on_ray import ADDRESS, NoClusterError, cluster

log = get_logger(__name__)

_NAME = "oneshot"
#: Ray's time limit is longer than the service's own, whose answer says which limit it was.
_MARGIN_SECONDS = 5.0


def serve_on_ray(settings: Settings, listening: socket.socket) -> int:
    """Serve until interrupted; returns the exit code. Raises StartupError.

    `listening` is a socket bound to the address. It is closed, and Ray's proxies bind its port.
    """
    host, port = listening.getsockname()[:2]
    listening.close()
    settings = absolute(settings)
    configure_logging(settings.log_level, settings.log_format)
    _check(settings)
    with _joined():
        # one proxy on each node that runs a process which receives requests
        options = {"host": host, "port": port, "request_timeout_s": settings.request_timeout + _MARGIN_SECONDS}
        serve.start(proxy_location="EveryNode", http_options=options, logging_config=QUIET)
        try:
            with _signalled() as stopping:
                serve.run(build(settings), name=_NAME, route_prefix="/")
                log.info("started", url=f"http://{host}:{port}", nodes=len(ray.nodes()), shards=settings.shards)
                stopping.wait()
                log.info("stopping")
        except RuntimeError as error:  # the processes' logs have the details
            raise StartupError(f"the application does not start on Ray: {error}") from error
        finally:
            serve.delete(_NAME)
    return 0


@contextmanager
def _joined() -> Iterator[None]:
    try:
        with cluster(cpus=2) as own:
            yield
            if own:
                serve.shutdown()
    except NoClusterError as error:
        raise StartupError(f"{variable('engine')}=ray: {error}") from error


@contextmanager
def _signalled() -> Iterator[threading.Event]:
    """An event that the stop signals set. Ray has installed handlers of its own for these."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(settings: Settings) -> None:
    """Detect, before the processes are started, what would keep all of them from starting. Raises StartupError."""
    if settings.store is None and ADDRESS in os.environ:
        log.warning("store_is_a_file", reason="every node needs the same one: set ONESHOT_STORE")
    with held_home(settings) as home, closing(open_store(home, settings.store)) as store:
        choose_model(settings, store, ModelShelf(home), *form(settings))
