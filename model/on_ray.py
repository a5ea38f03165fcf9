"""Joining a Ray cluster, or starting one: for serving, bulk enrolment and training alike. Needs the extra `ray`."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import ray

#: Of a cluster that is started here. What is on its way between processes lies in the object store.
_OBJECT_STORE_BYTES = 256 * 2**20
ADDRESS = "RAY_ADDRESS"


class NoClusterError(Exception):
    """There is no cluster; ``str(error)`` is one line that says why."""


@contextmanager
def cluster(cpus: int = 1) -> Iterator[bool]:
    """Join the cluster of ``RAY_ADDRESS``, or start one on this machine for the time being.

    Yields whether it is one's own; that one has ``cpus`` at least, and only its own processes can use it.

    Raises:
        NoClusterError: there is none at the address.
    """
    own = ADDRESS not in os.environ
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use to its makers
    try:
        if own:
            # only who has the token can use it; left to itself, Ray would keep one in the home folder
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
