"""How memory is given back: by the C library's allocator, and by Python's search for cycles.

Large blocks go back at once. glibc raises its threshold for blocks of their own (mmap) up to 32 MB as soon as one such
block is freed. From then on decoded images come from the heaps of the threads, where a small block above them keeps the
whole from being given back: a server that sees images of many sizes grows step by step, without a leak, to the sum of
what each thread ever held at once. With a fixed threshold it stays where it was.
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Above what the layers of a forward pass of some images allocate, so that these stay on the fast path.
LARGE_BLOCK_BYTES = 8 * 2**20
#: More of them than freed ones start a search of the youngest; Python's own value is 700.
_NEW_OBJECTS = 20_000


def give_large_blocks_back() -> bool:
    """Fix the thresholds for this process; whether the C library knows them (glibc does, musl and macOS need not)."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    options = (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    return all(set_option(option, LARGE_BLOCK_BYTES) == 1 for option in options)


def keep_what_is_there() -> None:
    """Take what was made so far out of Python's search for cycles, and have it search less often.

    Once started, a server keeps its modules, routes and schemas for good: some hundred thousand objects, which would be
    looked at again and again. What a request makes goes by itself, but for the rare cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
