"""Read-ahead window of an open video whose groups of pictures are known, or will be."""

from __future__ import annotations

import time
from collections.abc import Callable
from mmap import PAGESIZE

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.facts import MediaFacts
from ego4dfs.reader.pace import Pace
from ego4dfs.reader.window import FIRST_AT_START, MAX_FORWARD_STEP, READAHEAD_STEP, Window

GROUP_REQUEST_BYTES = 3 * PART_SIZE
"""The longest request for a group: one of average length arrives by four connections at once."""
MAX_GROUP_BYTES = 16 << 20
"""A longer group is read as other files are."""
MAX_RUN_GROUPS = 3
"""A run of more groups is longer than a window of some seconds."""
EAGER_SHARE = (3, 4)
"""How much of the group in which a seek ends is fetched at once: most windows need that much."""
MIN_AHEAD_BYTES, MAX_AHEAD_BYTES = PART_SIZE // 2, 2 * PART_SIZE
"""How far ahead of its reads a window of some seconds is fetched: as far as the reader gets while a
request is answered, less KERNEL_AHEAD_BYTES. With requests of 30 ms the least is enough for 5 MB/s,
and the most for 15 MB/s; to spare faster readers their waits, 1.5 times the needed bytes would be
fetched."""
KERNEL_AHEAD_BYTES = 64 << 10
"""How far ahead of a program a kernel reads at least."""
MAX_STEPPED_BYTES = 6 * PART_SIZE
"""How far after the first group that is so: two seconds, and what kernels read ahead of them."""
MAX_PREROLL_BYTES = BLOCK_SIZE
"""How far before a seek its group may begin, so that it is fetched from there on."""
_MAX_SEARCHES = 8  # for media facts; each may parse an index

FindFacts = Callable[[], MediaFacts | None]


class VideoWindow(Window):
    """The read-ahead of one open video.

    After a seek in a video with media facts EAGER_SHARE of the group of pictures is fetched, by
    several requests at once, and what follows as the reader goes on: part by part, so far ahead
    that it does not wait at the pace at which it has read the group; then groups in two halves.
    A run of more than MAX_RUN_GROUPS groups, one from the start of the file, and one in a video
    without media facts is fetched ahead as by a Window.

    Safe from several threads.
    """

    __slots__ = (
        "_clock",
        "_facts",
        "_find",
        "_first_group",
        "_has_long_run",
        "_pace",
        "_searches_left",
    )

    def __init__(
        self,
        find: FindFacts,
        facts: MediaFacts | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        first_at_start: int = FIRST_AT_START,
    ) -> None:
        """Call `find` at seeks until it returns media facts; it makes no request.

        `facts` are those that are known already. `clock` returns seconds. `first_at_start` is the
        least to fetch at the start of the file.
        """
        super().__init__(first_at_start)
        self._find = find
        self._facts = facts
        self._searches_left = _MAX_SEARCHES
        self._first_group: int | None = None  # the one in which this run began
        self._has_long_run = False
        self._clock = clock
        self._pace = Pace()

    @property
    def has_facts(self) -> bool:
        """Whether its groups of pictures are known."""
        return self._facts is not None

    @property
    def reads_windows(self) -> bool:
        """Whether its reader sought groups of pictures, and went on for a few of them only."""
        return self._first_group is not None and not self._has_long_run

    @property
    def granularity(self) -> int:
        """The unit to fetch in: parts until the window is open, then blocks."""
        return super().granularity if self._group_target() is None else PART_SIZE

    @property
    def request_bytes(self) -> int:
        """The longest request."""
        return READAHEAD_STEP if self._group_target() is None else GROUP_REQUEST_BYTES

    def first_byte(self, start: int) -> int:
        """Return where to begin to fetch for a read at `start`: programs read the sound as well."""
        group = self._first_group
        if self._facts is None or group is None or start != self._start:
            return start
        first = self._facts.starts[group]
        return min(start, first) if start - first <= MAX_PREROLL_BYTES else start

    def advance(
        self, start: int, stop: int, *, missed: bool = True, shared: bool = False
    ) -> range | None:
        """Record a read, and return the range to fetch ahead now, as `Window.advance` does."""
        is_unknown = self._facts is None and self._searches_left > 0
        if missed and start and is_unknown and self._is_seek(start):
            self._searches_left -= 1
            self._facts = self._find()  # without the lock: it reads files
        return super().advance(start, stop, missed=missed, shared=shared)

    def _is_seek(self, start: int, max_forward: int = MAX_FORWARD_STEP) -> bool:
        """Return whether a read begins another run: groups may be shorter than a step back."""
        group = self._first_group
        if group is not None and self._facts is not None and start < self._facts.starts[group]:
            return True
        return super()._is_seek(start, max_forward)

    def _seek(self, start: int, stop: int) -> None:
        super()._seek(start, stop)
        self._pace.restart()
        self._first_group = None
        if start < min(self.first_at_start, FIRST_AT_START):
            # A kernel goes on to read ahead at the start when a program has left it for the index.
            self._least = self.first_at_start
        elif self._facts:
            # It reads whole pages: the one in which a group begins may begin in another group.
            self._first_group = self._facts.group_at(min(stop, start + PAGESIZE) - 1)

    def _go_on(self, stop: int) -> None:
        super()._go_on(stop)
        self._pace.add(self._clock())

    def _target(self) -> int:
        target = self._group_target()
        return super()._target() if target is None else target

    def _group_target(self) -> int | None:
        """Return where the bytes end that groups say to fetch; None if they do not say."""
        facts, first = self._facts, self._first_group
        if facts is None or first is None:
            return None
        group = first if self._next <= facts.stops[first] else facts.group_at(self._next - 1)
        if group is None:
            return None
        if group - first >= MAX_RUN_GROUPS:
            self._has_long_run = True
            return None
        start = self._start if group == first else facts.stops[group - 1]
        stop = facts.stops[group]
        if stop - start > MAX_GROUP_BYTES:
            return None
        first_stop = facts.stops[first]
        if self._next <= first_stop + MAX_STEPPED_BYTES:
            share, of = EAGER_SHARE
            stop = self._start + (first_stop - self._start) * share // of
        elif self._next <= (middle := (start + stop) // 2):
            stop = middle
        stop = max(stop, self._next + self._ahead_bytes())
        return -(-stop // PART_SIZE) * PART_SIZE

    def _ahead_bytes(self) -> int:
        """Return how far ahead of a window of some seconds to fetch."""
        passed = self._pace.bytes_in_a_wait(self._next - self._start) - KERNEL_AHEAD_BYTES
        return max(MIN_AHEAD_BYTES, min(MAX_AHEAD_BYTES, passed))
