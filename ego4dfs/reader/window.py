"""How far to read ahead of one reader: nothing at first, twice as far each time it keeps on."""

from __future__ import annotations

import threading

from ego4dfs.blocks import BLOCK_SIZE

MAX_WINDOW = 32 * BLOCK_SIZE
BACK_SLACK = 2 * BLOCK_SIZE
"""A step back of this much is no seek: MP4 interleaving and kernel read-ahead reorder that far."""
FORWARD_SLACK = 1 * BLOCK_SIZE


class Window:
    """The read-ahead of one open file.

    A window opens with the second read on end, doubles whenever the reader has come half-way
    through it, and is never larger than what was read on end before: at most as much as was
    wanted, or the rest of a block, is fetched for nothing. Nothing is fetched ahead of a reader
    who has met no missing block yet: what is in the cache is read again without a request. A seek
    closes the window. Safe from several threads: kernels read one file by several requests at a
    time.
    """

    __slots__ = ("_ahead", "_lock", "_max", "_next", "_size", "_start", "_wanting")

    def __init__(self, max_bytes: int = MAX_WINDOW) -> None:
        """Open a window that grows up to `max_bytes`."""
        self._max = max_bytes
        self._lock = threading.Lock()
        self._start = 0  # where reading on end began
        self._next = -FORWARD_SLACK - 1  # where it is expected to go on: at first nowhere
        self._ahead = 0  # up to where the object has been asked for
        self._size = 0
        self._wanting = False  # whether a block was missing since reading on end began

    def advance(self, start: int, stop: int, *, missed: bool = True) -> range | None:
        """Note a read of [start, stop); return the bytes to fetch ahead now, or None.

        `missed` says whether some of it was not in the cache.
        Each byte ahead is named once while reading goes on.
        """
        with self._lock:
            if not self._next - BACK_SLACK <= start <= self._next + FORWARD_SLACK:
                self._start, self._next, self._ahead, self._size = start, stop, stop, 0
                self._wanting = missed
                return None
            self._next = max(self._next, stop)
            self._ahead = max(self._ahead, self._next)
            self._wanting |= missed
            if not self._wanting or self._next + self._size // 2 < self._ahead:
                return None
            read = self._next - self._start
            self._size = min(self._max, max(BLOCK_SIZE, min(self._size * 2, read)))
            target = self._next + self._size
            if target <= self._ahead:
                return None
            ahead = range(self._ahead, target)
            self._ahead = target
            return ahead
