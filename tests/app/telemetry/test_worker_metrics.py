"""Metrics that the workers of one server share while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.telemetry.worker_metrics import shared_by_workers, shared_folder

ASK = "from app.telemetry.worker_metrics import shared_folder; print(shared_folder())"


def test_processes_share_a_folder_that_ends_with_the_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with shared_by_workers():
        told = [
            subprocess.run(
                [sys.executable, "-c", ASK], check=True, capture_output=True, text=True, timeout=120, env=os.environ
            ).stdout
            for _ in range(2)
        ]
        folder = Path(told[0].strip())
        assert told[0] == told[1]
        assert folder.is_dir()
        assert shared_folder() is None, "the process that starts them counts for itself"
    assert not folder.exists()
