"""Metrics over all worker processes, which any of them can report.

Uses prometheus-client's multiprocess mode: each worker keeps its values in files of one folder, and the one that
reports adds them up. The counters of a dead worker remain; its gauges are dropped. The library chooses the mode when it
is imported, by an environment variable, so the supervisor sets that before it starts a worker.
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
    """Give the processes that are started in this context a shared folder. It is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="oneshot-workers-", ignore_cleanup_errors=True) as folder:
        os.environ[_SHARED] = folder
        yield


def all_workers() -> CollectorRegistry | None:
    """A registry over all workers, or None in a process without other workers."""
    folder = shared_folder()
    if folder is None:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(_Processes(folder))
    return registry


def shared_folder() -> Path | None:
    """The folder that the workers of one server share while they run, or None in a single process."""
    return Path(os.environ[_SHARED]) if getattr(ValueClass, "_multiprocess", False) else None


class _Processes(Collector):
    """The usual `process_...` metrics of each live worker, with the label `pid`."""

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
