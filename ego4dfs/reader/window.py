"""How far to read ahead of one reader: nothing at first, more the longer it keeps on."""

from __future__ import annotations

import threading
from collections import deque

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE

MAX_WINDOW = 64 * BLOCK_SIZE
FIRST = 2 * PART_SIZE
"""What is fetched at the least where reading begins."""
GUESS, MAX_GUESS = 1 * BLOCK_SIZE, 2 * BLOCK_SIZE
"""What is fetched at once behind a seek: as much as one of the last four runs took. Of two
seconds of a video, 1.1 MiB on average, the kernel reads its own part ahead, step by step, and the
program would wait for each step."""
OPEN_AFTER = 4 * BLOCK_SIZE
"""Reading on end for less than this may be a look at an index, or two seconds of a video."""
STEP = 8 * BLOCK_SIZE
"""An open window moves on by whole steps of this much: one request each."""
BACK_SLACK = 2 * BLOCK_SIZE
"""A step back of this much is no seek: MP4 interleaving and kernel read-ahead reorder that far."""
FORWARD_SLACK = 1 * BLOCK_SIZE

_RUNS = 4  # three may be an index: the file's begin, its end, and what the kernel reads behind it


class Window:
    """The read-ahead of one open file.

    Until a reader has read `OPEN_AFTER` bytes on end, what is fetched of those is rounded up to
    the next power of two, or to what earlier runs of this reader took: at most as much as is
    wanted, `FIRST`, or `MAX_GUESS` behind a seek, is fetched for nothing. Then half as much
    again as was read is fetched ahead, up to the bound, in whole steps. Nothing is fetched ahead of
    a reader who has met nothing missing yet: what is in the cache is read again without a request.
    A seek closes the window. Safe from several threads: kernels read one file by several requests
    at a time.
    """

    __slots__ = ("_ahead", "_least", "_lock", "_next", "_runs", "_start", "_wanting")

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._lock = threading.Lock()
        self._start = 0  # where reading on end began
        self._next = -FORWARD_SLACK - 1  # where it is expected to go on: at first nowhere
        self._ahead = 0  # up to where the object has been asked for
        self._wanting = False  # whether something was missing since reading on end began
        self._least = FIRST  # what is fetched where it began
        self._runs = deque([GUESS] * _RUNS, maxlen=_RUNS)  # how much was read on end lately

    @property
    def grain(self) -> int:
        """The unit to fetch in: parts until the window is open, then blocks."""
        return BLOCK_SIZE if self._next - self._start > OPEN_AFTER else PART_SIZE

    def skips(self, start: int) -> bool:
        """Tell whether a read would skip so much that others may have read it, and no more."""
        return self._next + FORWARD_SLACK < start <= self._next + MAX_WINDOW

    def advance(
        self, start: int, stop: int, *, missed: bool = True, shared: bool = False
    ) -> range | None:
        """Note a read of [start, stop); return the bytes to fetch ahead now, or None.

        `missed` says whether some of it was not in the cache, `shared` whether others have read
        what this one skips: processes that read a file together each ask for some of it.
        Each byte ahead is named once while reading goes on, but for a retreat.
        """
        with self._lock:
            slack = MAX_WINDOW if shared else FORWARD_SLACK
            if not self._next - BACK_SLACK <= start <= self._next + slack:
                self._seek(start, stop)
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

    def _seek(self, start: int, stop: int) -> None:
        if self._next > self._start:
            self._runs.append(self._next - self._start)
        wanted = min(MAX_GUESS, _power(max(self._runs)))
        self._least = max(FIRST, wanted) if start else FIRST  # at 0 there is an index, or all
        self._start, self._next, self._ahead = start, stop, stop
        self._wanting = False

    def _target(self) -> int:
        """Return up to where to ask now; no further than `_ahead` while that is far enough."""
        read = self._next - self._start
        if read <= OPEN_AFTER:
            wanted = max(self._least, _power(read))
            return (self._start + min(read + MAX_WINDOW, wanted)) // PART_SIZE * PART_SIZE
        # To the same borders for all: readers of one file name no fragments of each other's steps.
        return (self._next + min(MAX_WINDOW, read + read // 2)) // STEP * STEP


def _power(size: int) -> int:
    """Return the next power of two."""
    return 1 << (size - 1).bit_length()
