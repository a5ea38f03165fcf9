"""How the C library's allocator gives memory back: at once, where a block is large.

glibc raises its threshold for blocks of their own (mmap) up to 32 MB as soon as one such block is freed. From then on
decoded images come from the heaps of the threads, where a small block above them keeps the whole from being given
back: a server that sees images of many sizes grows step by step, without a leak, to the sum of what each thread ever
held at once. With a fixed threshold it stays where it was.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Above what the layers of a forward pass of some images allocate, so that these stay on the fast path.
LARGE_BLOCK_BYTES = 8 * 2**20


def give_large_blocks_back() -> bool:
    """Fix the thresholds for this process; whether the C library knows them (glibc does, musl and macOS need not)."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    options = (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    return all(set_option(option, LARGE_BLOCK_BYTES) == 1 for option in options)
