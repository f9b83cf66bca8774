"""Freed memory that malloc keeps is returned to the kernel, by one thread of each process."""

from __future__ import annotations

import ctypes
import os

from ego4dfs.runtime.periodic_thread import PeriodicThread

TRIM_EVERY_S = 10.0
MIN_FREE_BYTES = 32 << 20
"""Less free memory than this is not worth the time to return it, while it is used again."""
_MIN_IDLE_BYTES = 1 << 20
"""The same for a process that is idle: one in which the memory in use has changed by less."""

_pids: set[int] = set()  # a forked child has none of the threads of its parent


def keep_heap_trimmed() -> None:
    """Return freed memory to the kernel every TRIM_EVERY_S, from the first call in a process on.

    Where no thread can be started, it is not returned.
    """
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
        self._used = 0  # at the last call

    def __call__(self) -> None:
        """Return free memory, if there is much, or some and the process is idle."""
        if self._trim is None or self._info is None:
            return
        info = self._info()
        free, used = int(info.fordblks), int(info.uordblks)
        if free >= MIN_FREE_BYTES:
            is_due = (free, used) != self._trimmed
        else:
            is_due = free >= _MIN_IDLE_BYTES > abs(used - self._used) and self._has_changed(free)
        if is_due:
            self._trim(0)
            self._trimmed = free, used
        self._used = used

    def _has_changed(self, free: int) -> bool:
        """Return whether another amount is free than was returned the last time, which counts."""
        return self._trimmed is None or abs(free - self._trimmed[0]) >= _MIN_IDLE_BYTES


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2`, see mallinfo(3): bytes that are free and in use, among others."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )
