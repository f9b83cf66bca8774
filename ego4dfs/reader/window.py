"""How far to read ahead of one reader: nothing at first, more the longer it keeps on."""

from __future__ import annotations

import threading

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE

MAX_WINDOW = 64 * BLOCK_SIZE
FIRST = 2 * PART_SIZE
"""What is fetched at the least where reading begins."""
OPEN_AFTER = 4 * BLOCK_SIZE
"""Reading on end for less than this may be a look at an index, or two seconds of a video."""
STEP = 8 * BLOCK_SIZE
"""An open window moves on by whole steps of this much: one request each."""
BACK_SLACK = 2 * BLOCK_SIZE
"""A step back of this much is no seek: MP4 interleaving and kernel read-ahead reorder that far."""
FORWARD_SLACK = 1 * BLOCK_SIZE


class Window:
    """The read-ahead of one open file.

    Until a reader has read `OPEN_AFTER` bytes on end, what is fetched of those is rounded up to
    the next power of two: as much as was wanted or `FIRST`, at most, is fetched for nothing. Then
    twice as much is fetched ahead as was read, up to the bound. Nothing is fetched ahead of a
    reader who has met nothing missing yet: what is in the cache is read again without a request.
    A seek closes the window. Safe from several threads: kernels read one file by several requests
    at a time.
    """

    __slots__ = ("_ahead", "_lock", "_max", "_next", "_start", "_wanting")

    def __init__(self, max_bytes: int = MAX_WINDOW) -> None:
        """Open a window that grows up to `max_bytes`."""
        self._max = max_bytes
        self._lock = threading.Lock()
        self._start = 0  # where reading on end began
        self._next = -FORWARD_SLACK - 1  # where it is expected to go on: at first nowhere
        self._ahead = 0  # up to where the object has been asked for
        self._wanting = False  # whether something was missing since reading on end began

    @property
    def grain(self) -> int:
        """The unit to fetch in: parts until the window is open, then blocks."""
        return BLOCK_SIZE if self._next - self._start > OPEN_AFTER else PART_SIZE

    def advance(self, start: int, stop: int, *, missed: bool = True) -> range | None:
        """Note a read of [start, stop); return the bytes to fetch ahead now, or None.

        `missed` says whether some of it was not in the cache.
        Each byte ahead is named once while reading goes on, but for a retreat.
        """
        with self._lock:
            if not self._next - BACK_SLACK <= start <= self._next + FORWARD_SLACK:
                self._start, self._next, self._ahead = start, stop, stop
                self._wanting = False
            self._next = max(self._next, stop)
            self._ahead = max(self._ahead, self._next)
            self._wanting |= missed
            target = self._target() if self._wanting else 0
            if target <= self._ahead:
                return None
            ahead = range(self._ahead, target)
            self._ahead = target
            return ahead

    def retreat(self, stop: int) -> None:
        """Note that from `stop` on nothing could be asked for now, so that it is named again."""
        with self._lock:
            self._ahead = max(self._next, min(self._ahead, stop))

    def _target(self) -> int:
        """Return up to where to ask now; no further than `_ahead` while that is far enough."""
        read = self._next - self._start
        if read <= OPEN_AFTER:
            wanted = max(FIRST, 1 << (read - 1).bit_length())
            return (self._start + min(read + self._max, wanted)) // PART_SIZE * PART_SIZE
        room = self._next + min(self._max, 2 * read) - self._ahead
        step = min(STEP, self._max // 2)
        return self._ahead + room // step * step
