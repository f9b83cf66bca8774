"""Freed memory that malloc keeps is returned to the kernel, by one thread of each process."""

from __future__ import annotations

import ctypes
import os

from ego4dfs.runtime.periodic_thread import PeriodicThread

TRIM_EVERY_S = 10.0
MIN_FREE_BYTES = 32 << 20
"""Less free memory than this is not worth the time to return it."""

_pids: set[int] = set()  # a forked child has none of the threads of its parent


def keep_heap_trimmed() -> None:
    """Return freed memory to the kernel every TRIM_EVERY_S, from the first call in a process on."""
    pid = os.getpid()
    if pid not in _pids:
        _pids.add(pid)
        PeriodicThread(HeapTrimmer(), TRIM_EVERY_S, name="heap").start()


class HeapTrimmer:
    """Returns the pages of freed blocks to the kernel, when called. For one thread.

    Blocks of all sizes are freed and allocated in any order, so the heap becomes fragmented: after
    minutes with 64 random readers it was four times as large as what was in use. A C library
    without malloc_trim and mallinfo2 (glibc 2.33) is left as it is.
    """

    def __init__(self) -> None:
        """Look for the functions."""
        libc = ctypes.CDLL(None)
        self._trim = getattr(libc, "malloc_trim", None)
        self._info = getattr(libc, "mallinfo2", None)
        if self._info is not None:
            self._info.restype = _MallocInfo
        self._trimmed: tuple[int, int] | None = None

    def __call__(self) -> None:
        """Return free memory, if there is much and the heap has changed since the last time."""
        if self._trim is None or self._info is None:
            return
        info = self._info()
        heap = (int(info.fordblks), int(info.uordblks))
        if heap[0] >= MIN_FREE_BYTES and heap != self._trimmed:
            self._trim(0)
            self._trimmed = heap


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2`, see mallinfo(3): bytes that are free and in use, among others."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )
