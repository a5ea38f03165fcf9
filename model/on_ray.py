"""Join a Ray cluster, or start one, for serving, bulk enrolment and training. Needs the extra `ray`."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import ray

#: Object store of a cluster started here; it holds data in transit between processes.
_OBJECT_STORE_BYTES = 256 * 2**20
ADDRESS = "RAY_ADDRESS"


class NoClusterError(Exception):
    """No cluster could be joined or started; ``str(error)`` is one line that says why."""


@contextmanager
def cluster(cpus: int = 1) -> Iterator[bool]:
    """Join the cluster at ``RAY_ADDRESS``, or start a temporary one on this machine.

    Yields whether the cluster was started here. Such a cluster has at least ``cpus`` CPUs and is private to its
    processes.

    Raises:
        NoClusterError: there is no cluster at the address, or none could be started.
    """
    own = ADDRESS not in os.environ
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        if own:
            # the token restricts access; by default Ray would keep one in the home folder
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=max(os.cpu_count() or 1, cpus),
                object_store_memory=_OBJECT_STORE_BYTES,
                logging_level=logging.WARNING,
            )
        else:
            ray.init(logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise NoClusterError(f"no Ray cluster: {error}") from error
    try:
        yield own
    finally:
        ray.shutdown()
