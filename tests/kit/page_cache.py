"""A kernel's page cache above the window of an open video, and the network below, in virtual time.

Follows `ondemand_readahead` of Linux 5.10 (mm/readahead.c). It counts what a program that decodes
windows of videos costs: bytes, requests, and how often the program waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from mmap import PAGESIZE

from ego4dfs.blocks import PART_SIZE
from ego4dfs.reader import Window
from ego4dfs.reader.window import SEQUENTIAL_AFTER

ROUND_TRIP_S = 0.030
BYTES_PER_S = 80e6
"""Of one connection."""
_MAX_READ_BYTES = 128 << 10


@dataclass
class Clock:
    """Virtual time, for a window that measures how fast it is read."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@dataclass
class Network:
    """What is requested for the reads of one open file, and when it arrives."""

    window: Window
    clock: Clock = field(default_factory=Clock)
    arrivals: dict[int, float] = field(default_factory=dict)
    """When each part that was requested arrives."""
    requests: int = 0

    @property
    def fetched(self) -> int:
        """How many bytes were requested."""
        return len(self.arrivals) * PART_SIZE

    def read(self, now_s: float, start: int, stop: int) -> float:
        """Do as a Reader does with a read; return when its bytes are there."""
        self.clock.now_s = now_s
        parts = _units(range(start, stop), PART_SIZE)
        missed = any(self.arrivals.get(part, now_s + 1) > now_s for part in parts)
        ahead = self.window.advance(start, stop, missed=missed)
        if missed:
            awaited = stop
            if ahead is not None and self.window.granularity == PART_SIZE:
                awaited = max(stop, min(ahead.stop, start + SEQUENTIAL_AFTER))
                ahead = range(awaited, ahead.stop)
            self._request(now_s, range(self.window.first_byte(start), awaited))
        if ahead:
            self._request(now_s, ahead)
        return max(now_s, *(self.arrivals[part] for part in parts))

    def _request(self, now_s: float, wanted: range) -> None:
        size, length = self.window.granularity, 0
        first, stop = wanted.start // size * size, -(-wanted.stop // size) * size
        for part in range(first // PART_SIZE, stop // PART_SIZE):
            if part in self.arrivals:
                length = 0
                continue
            if length in {0, self.window.request_bytes}:
                self.requests, length = self.requests + 1, 0
            length += PART_SIZE
            self.arrivals[part] = now_s + ROUND_TRIP_S + length / BYTES_PER_S


def _units(wanted: range, size: int) -> range:
    return range(wanted.start // size, -(-wanted.stop // size))


class PageCache:
    """The pages of one open file that a kernel has read, with its read-ahead."""

    def __init__(self, network: Network, read_ahead_bytes: int) -> None:
        """Read ahead so far."""
        self._network = network
        self._max = read_ahead_bytes // PAGESIZE
        self._pages: dict[int, float] = {}  # when each one arrives
        self._marked: set[int] = set()  # the pages whose read starts the next read-ahead
        self._start = self._size = self._async_size = 0
        self._last = -2

    def read(self, now_s: float, offset: int, length: int) -> float:
        """Return when the bytes are there that a program reads."""
        pages = _units(range(offset, offset + length), PAGESIZE)
        for page in pages:
            left = pages.stop - page
            if page not in self._pages:
                self._read_ahead(now_s, page, left, is_hit=False)
            elif page in self._marked:
                self._marked.discard(page)
                self._read_ahead(now_s, page, left, is_hit=True)
            now_s = max(now_s, self._pages[page])
            self._last = page
        return now_s

    def _read_ahead(self, now_s: float, page: int, wanted: int, *, is_hit: bool) -> None:
        if self._size and page in {
            self._start + self._size - self._async_size,
            self._start + self._size,
        }:
            self._start, self._size = self._start + self._size, self._next_size()
            self._async_size = self._size
        elif is_hit:
            self._start = next(
                p for p in range(page + 1, page + 2 + self._max * 2) if p not in self._pages
            )
            self._size = self._start - page + wanted
            self._size = self._async_size = self._next_size()
        elif page == 0 or wanted > self._max or page - self._last in {0, 1}:
            self._start, self._size = page, self._first_size(wanted)
            self._async_size = self._size - wanted if self._size > wanted else self._size
        else:
            return self._send(now_s, range(page, page + wanted))
        if page == self._start and self._size == self._async_size:
            self._async_size = self._next_size()
            self._size = min(self._max, self._size + self._async_size)
        self._marked.add(self._start + self._size - self._async_size)
        return self._send(now_s, range(self._start, self._start + self._size))

    def _first_size(self, wanted: int) -> int:
        size = 1 << (wanted - 1).bit_length()
        if size <= self._max // 32:
            return 4 * size
        return 2 * size if size <= self._max // 4 else self._max

    def _next_size(self) -> int:
        if self._size < self._max // 16:
            return 4 * self._size
        return min(2 * self._size, self._max)

    def _send(self, now_s: float, pages: range) -> None:
        """Send a request for each run of pages that are not there."""
        missing = [page for page in pages if page not in self._pages]
        while missing:
            count = 1
            limit = min(len(missing), _MAX_READ_BYTES // PAGESIZE)
            while count < limit and missing[count] == missing[0] + count:
                count += 1
            first, stop = missing[0] * PAGESIZE, (missing[0] + count) * PAGESIZE
            arrival = self._network.read(now_s, first, stop)
            self._pages.update(dict.fromkeys(missing[:count], arrival))
            missing = missing[count:]
