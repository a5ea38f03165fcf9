"""Memory tuning: thresholds of the C library's allocator, and Python's garbage collector.

Large blocks go back to the system at once. glibc raises its mmap threshold up to 32 MB as soon as one mmapped block is
freed. After that, decoded images come from the threads' heaps, where a small block above them keeps the whole heap from
being returned. A server that sees images of many sizes then grows step by step, without a leak, to the sum of what each
thread has ever held at once. With a fixed threshold it does not grow.
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Above the allocations of a forward pass of a few images, so that those stay on the fast path.
LARGE_BLOCK_BYTES = 8 * 2**20
#: Surplus of new over freed objects that starts a collection of the youngest generation. Python's own value is 700.
_NEW_OBJECTS = 20_000


def give_large_blocks_back() -> bool:
    """Fix the thresholds for this process. Return whether the C library supports it: glibc does, others may not."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    options = (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    return all(set_option(option, LARGE_BLOCK_BYTES) == 1 for option in options)


def keep_what_is_there() -> None:
    """Exclude all current objects from garbage collection, and collect less often.

    A started server keeps its modules, routes and schemas for good. They are some hundred thousand objects, which every
    full collection would traverse. What a request allocates is freed by its reference count, except in rare cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
