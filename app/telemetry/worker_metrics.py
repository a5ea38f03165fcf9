"""Metrics of all worker processes together, whichever of them is asked.

prometheus-client's multiprocess mode: each worker keeps its numbers in files of one folder, and whoever is asked adds
them up. What a worker that died had counted stays counted; its gauges go. The library decides when it is imported,
from a variable, so the supervisor sets that before it starts a worker.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import ValueClass

_SHARED = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared_by_workers() -> Iterator[None]:
    """Let the processes that are started meanwhile share a folder, which ends with the context."""
    with tempfile.TemporaryDirectory(prefix="oneshot-workers-", ignore_cleanup_errors=True) as folder:
        os.environ[_SHARED] = folder
        yield


def all_workers() -> CollectorRegistry | None:
    """What all workers have counted, or None in a process that counts for itself."""
    folder = shared_folder()
    if folder is None:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(_Processes(folder))
    return registry


def shared_folder() -> Path | None:
    """Where the workers of one server keep what they share while they run, or None in a process on its own."""
    return Path(os.environ[_SHARED]) if getattr(ValueClass, "_multiprocess", False) else None


class _Processes(Collector):
    """The usual `process_...` of each worker that lives, told apart by the label `pid`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for pid in sorted(self._pids()):
            for found in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                family = families.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type, found.unit)
                )
                for sample in found.samples:
                    family.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
        yield from families.values()

    def _pids(self) -> set[int]:
        names = (path.name for path in self._folder.glob("gauge_live*.db"))
        return {int(found[1]) for name in names if (found := re.search(r"_(\d+)\.db$", name))}
