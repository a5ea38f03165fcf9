"""With fixed allocator thresholds, freed blocks of all sizes return to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# 12 to 31 MB: by default, after a block of 32 MB was freed, glibc would take all of these from its heap
SCRIPT = """
import sys
from app.allocator import give_large_blocks_back

def anonymous():  # megabytes
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1000

if sys.argv[1] == "fixed":
    assert give_large_blocks_back()
bytearray(31 * 2**20)
before, small = anonymous(), []
for megabytes in range(12, 31):
    block = bytearray(megabytes * 2**20)
    small += [bytes(1000) for _ in range(200)]
    del block
print(anonymous() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_large_blocks_are_given_back_under_small_ones():
    grown = {}
    for mode in ("fixed", "own"):
        command = [sys.executable, "-c", SCRIPT, mode]
        grown[mode] = float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert grown["fixed"] < 15, grown
    assert grown["own"] > grown["fixed"] + 5, "or there is nothing to fix any more"
