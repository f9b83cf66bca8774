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

    A window doubles whenever the reader has come half-way through it, and is never larger than
    what was read on end before, so at most as much as was wanted is fetched for nothing. A seek
    closes it. Safe from several threads: kernels read one file by several requests at a time.
    """

    __slots__ = ("_ahead", "_lock", "_max", "_next", "_size")

    def __init__(self, max_bytes: int = MAX_WINDOW) -> None:
        """Open a window that grows up to `max_bytes`."""
        self._max = max_bytes
        self._lock = threading.Lock()
        self._next = -1  # where the reader is expected to go on
        self._ahead = 0  # up to where the object has been asked for
        self._size = 0

    def advance(self, start: int, stop: int) -> range | None:
        """Note a read of [start, stop); return the bytes to fetch ahead now, or None.

        Each byte ahead is named once while reading goes on.
        """
        with self._lock:
            if not self._next - BACK_SLACK <= start <= self._next + FORWARD_SLACK:
                self._next, self._ahead, self._size = stop, stop, 0
                return None
            self._next = max(self._next, stop)
            self._ahead = max(self._ahead, self._next)
            if self._next + self._size // 2 < self._ahead:
                return None
            self._size = min(self._max, max(BLOCK_SIZE, self._size * 2))
            target = self._next + self._size
            if target <= self._ahead:
                return None
            ahead = range(self._ahead, target)
            self._ahead = target
            return ahead
