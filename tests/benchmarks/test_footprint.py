"""The footprint benchmark: which processes it counts, and its table."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.footprint import Footprint, _descendants, _proportional_bytes, disk_bytes, file_bytes, table


def test_memory_of_all_processes_is_counted():
    script = "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert child in _descendants(os.getpid())
        assert _descendants(parent.pid) == [child]
        assert _proportional_bytes(parent.pid) > _proportional_bytes(child) > 0
        parent.kill()
    os.kill(child, 9)


def test_sizes_of_folders(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x" * 10_000)
    assert file_bytes(tmp_path) == 10_000
    assert disk_bytes(tmp_path) >= 10_000


def test_the_table_has_a_column_for_each_revision():
    first = Footprint("aaaa", 365.2, 5_316_000_000, 29_900_000, (4.0, 9.0, 5.0), (300_000_000,), None)
    second = Footprint("bbbb", 61.0, 640_000_000, 29_970_000, (3.0,), (200_000_000,), 480_000_000)
    lines = table([first, second]).splitlines()
    assert lines[0].split() == ["|", "|", "aaaa", "|", "bbbb", "|"]
    assert "| time to ready, median | 5.0 s | 3.0 s |" in lines
    assert "| image | not built | 480 MB |" in lines
    assert {line.count("|") for line in lines} == {4}
