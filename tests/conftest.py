"""How the suite is run: the quick tests side by side, the slow proofs one by one."""

from __future__ import annotations

import os

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes for `-n auto`: the slow proofs measure time and memory, so each has the machine for itself."""
    return (os.cpu_count() or 1) if config.option.markexpr == "not slow" else 0
