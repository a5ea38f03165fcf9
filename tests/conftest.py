"""How the suite runs: quick tests in parallel, slow proofs one by one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes for `-n auto`: slow proofs measure time and memory, so each runs alone on the machine."""
    return (os.cpu_count() or 1) if config.option.markexpr == "not slow" else 0


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Disable the garbage collector: cycles stay, as in a service that makes few, and a large heap costs no time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()
