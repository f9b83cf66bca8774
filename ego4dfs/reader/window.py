"""Read-ahead window of one open file: sizes grow with the length of sequential reading."""

from __future__ import annotations

import threading
from collections import deque

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE

MAX_WINDOW = 64 * BLOCK_SIZE
FIRST_AT_START = 2 * PART_SIZE
"""The least that is fetched at the start of a file."""
FIRST_AFTER_SEEK, MAX_FIRST_AFTER_SEEK = 1 * BLOCK_SIZE, 2 * BLOCK_SIZE
"""What is fetched at once after a seek: as much as the longest of the last four sequential runs.
A program that reads two seconds of a video, 1.1 MiB on average, would otherwise wait for each of
the small steps by which the kernel reads ahead."""
SEQUENTIAL_AFTER = 4 * BLOCK_SIZE
"""A shorter sequential run may be a read of an index, or two seconds of a video."""
READAHEAD_STEP = 8 * BLOCK_SIZE
"""An open window advances by whole multiples of this; it is also the longest request."""
MAX_BACKWARD_STEP = 2 * BLOCK_SIZE
"""A shorter step back is not a seek: MP4 interleaving and kernel read-ahead cause such steps."""
MAX_FORWARD_STEP = 1 * BLOCK_SIZE

_RUNS = (
    4  # three may be an index: the start of the file, its end, and the kernel's read-ahead there
)


class Window:
    """The read-ahead of one open file.

    Until a reader has read `SEQUENTIAL_AFTER` bytes sequentially, fetches are rounded up to the
    next power of two, or to the length of earlier runs. So what is fetched and never read is at
    most as long as what was read, or `FIRST_AT_START`, or `MAX_FIRST_AFTER_SEEK` after a seek.
    After that half as much again as was read is fetched ahead, up to `MAX_WINDOW`, in whole steps.
    While everything is found in the cache, nothing is fetched ahead. A seek closes the window.

    Safe from several threads: kernels read one file by several requests at a time.
    """

    __slots__ = (
        "_ahead",
        "_has_missed",
        "_least",
        "_lock",
        "_missed",
        "_next",
        "_runs",
        "_start",
        "first_at_start",
    )

    def __init__(self, first_at_start: int = FIRST_AT_START) -> None:
        """Begin with nothing read; `first_at_start` is the least to fetch at the file's start."""
        self.first_at_start = first_at_start
        self._lock = threading.Lock()
        self._start = 0  # of the sequential run
        self._next = -MAX_FORWARD_STEP - 1  # where the run is expected to continue: nowhere yet
        self._ahead = 0  # end of what was requested so far
        self._has_missed = False  # whether something was not cached in this run
        self._missed = 0  # bytes, since the last `take_missed`
        self._least = first_at_start  # bytes fetched at the start of this run
        self._runs = deque([FIRST_AFTER_SEEK] * _RUNS, maxlen=_RUNS)  # lengths of the last runs

    @property
    def granularity(self) -> int:
        """The unit to fetch in: parts until the window is open, then blocks."""
        return BLOCK_SIZE if self._next - self._start > SEQUENTIAL_AFTER else PART_SIZE

    @property
    def request_bytes(self) -> int:
        """The longest request."""
        return READAHEAD_STEP

    def first_byte(self, start: int) -> int:
        """Return where to begin to fetch for a read at `start`, after `advance`."""
        return start

    def skipped(self, start: int) -> range:
        """Return the bytes that a read at `start` skips, if other processes may have read them.

        Empty for a first read: it may be one at random.
        """
        reached = self._next
        is_skip = reached > 0 and reached + MAX_FORWARD_STEP < start <= reached + MAX_WINDOW
        return range(reached, start) if is_skip else range(0)

    def advance(
        self, start: int, stop: int, *, missed: bool = True, shared: bool = False
    ) -> range | None:
        """Record a read of [start, stop); return the range to fetch ahead now, or None.

        `missed` says whether some of it was not cached, `shared` whether others have read what
        this one skips: processes that read a file together request some of it each.
        Each byte ahead is returned once per run, except after `rewind_to`.
        """
        with self._lock:
            max_forward = MAX_WINDOW if shared else MAX_FORWARD_STEP
            if self._is_seek(start, max_forward):
                self._seek(start, stop)
            self._go_on(stop)
            self._has_missed |= missed
            target = self._target() if self._has_missed else 0
            if target <= self._ahead:
                return None
            ahead = range(self._ahead, target)
            self._ahead = target
            return ahead

    def rewind_to(self, stop: int) -> None:
        """Let a later `advance` return the bytes from `stop` on again: they were not requested."""
        with self._lock:
            self._ahead = max(self._next, min(self._ahead, stop))

    def add_missed(self, count: int) -> None:
        """Count bytes of a read that were not cached before it."""
        with self._lock:
            self._missed += count

    def take_missed(self) -> int:
        """Return the bytes that were counted since the last call."""
        if not self._missed:  # as in most reads: without the lock
            return 0
        with self._lock:
            missed, self._missed = self._missed, 0
            return missed

    def _is_seek(self, start: int, max_forward: int = MAX_FORWARD_STEP) -> bool:
        """Return whether a read at `start` begins another run."""
        return not self._next - MAX_BACKWARD_STEP <= start <= self._next + max_forward

    def _seek(self, start: int, stop: int) -> None:
        if self._next > self._start:
            self._runs.append(self._next - self._start)
        wanted = min(MAX_FIRST_AFTER_SEEK, _next_power_of_two(max(self._runs)))
        # At 0 a program reads an index, or everything.
        self._least = max(FIRST_AT_START, wanted) if start else self.first_at_start
        self._start, self._next, self._ahead = start, stop, stop
        self._has_missed = False

    def _go_on(self, stop: int) -> None:
        self._next = max(self._next, stop)
        self._ahead = max(self._ahead, self._next)

    def _target(self) -> int:
        """Return the end of what should have been requested by now."""
        read = self._next - self._start
        if read <= SEQUENTIAL_AFTER:
            wanted = max(self._least, _next_power_of_two(read))
            return (self._start + min(read + MAX_WINDOW, wanted)) // PART_SIZE * PART_SIZE
        # All readers of one file use the same boundaries, so that their requests do not overlap.
        end = self._next + min(MAX_WINDOW, read + read // 2)
        return end // READAHEAD_STEP * READAHEAD_STEP


class ExactWindow(Window):
    """The window of a program that knows the ranges it needs, and reads each with one call.

    What it reads is fetched in parts, and nothing after it. If `stop` is given, the bytes before
    it will be read for certain: a read of many pieces has the next ones fetched ahead.
    """

    __slots__ = ("_stop",)

    def __init__(self, stop: int = 0) -> None:
        """Fetch nothing ahead from `stop` on."""
        super().__init__()
        self._stop = stop

    @property
    def granularity(self) -> int:
        """The unit to fetch in: parts."""
        return PART_SIZE

    def skipped(self, start: int) -> range:
        """Return an empty range."""
        del start
        return range(0)

    def advance(
        self, start: int, stop: int, *, missed: bool = True, shared: bool = False
    ) -> range | None:
        """Return what to fetch ahead now, before the `stop` of this window; or None."""
        del start, missed, shared
        with self._lock:
            reached = max(self._ahead, stop)
            self._ahead = max(reached, min(self._stop, stop + MAX_WINDOW))
            return range(reached, self._ahead) if self._ahead > reached else None


def _next_power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
