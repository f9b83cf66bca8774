"""What is read now and the slowest requests of the last minute, in bounded memory."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

READS_S: Final = 5.0
"""Reads are counted over at least this time, and at most twice as long."""
MAX_FILES: Final = 1024
"""Files whose reads are counted at a time; above it, those that were read least are left out."""
REQUESTS_S: Final = 60.0
"""How long a request is kept after its end."""
MAX_REQUESTS: Final = 32
"""Requests that are kept: the slowest."""

_PURGE_S = 1.0
_RUNNING = "running"

Clock = Callable[[], float]


class RecentReads:
    """Bytes that were read in the last seconds, for each file.

    Counts are kept for two periods of READS_S, the present and the last one. Safe from several
    threads: the lock is held for some additions, except once a period and at MAX_FILES.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Count from now on."""
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = self._last_began_s = clock()
        self._counts: dict[str, list[int]] = {}
        self._last: dict[str, list[int]] = {}

    def add(self, path: str, count: int, missed: int) -> None:
        """Count a read of a file, and how many of its bytes had to wait for the store."""
        with self._lock:
            self._turn()
            counts = self._counts.get(path)
            if counts is None:
                if len(self._counts) >= MAX_FILES:
                    self._counts = dict(_most(self._counts, MAX_FILES // 2))
                counts = self._counts[path] = [0, 0]
            counts[0] += count
            counts[1] += missed

    def most_read(self, limit: int) -> tuple[float, list[tuple[str, int, int]]]:
        """Return the seconds that were counted, and the files of which most was read in them.

        Each file has its path, its bytes, and those of them that had to wait for the store.
        """
        with self._lock:
            self._turn()
            seconds = self._clock() - self._last_began_s
            both = {path: list(counts) for path, counts in self._last.items()}
            for path, (count, missed) in self._counts.items():
                sums = both.setdefault(path, [0, 0])
                sums[0] += count
                sums[1] += missed
        return seconds, [(path, counts[0], counts[1]) for path, counts in _most(both, limit)]

    def _turn(self) -> None:
        """Begin a new period if the present one has ended."""
        now_s = self._clock()
        elapsed_s = now_s - self._began_s
        if elapsed_s < READS_S:
            return
        if elapsed_s < 2 * READS_S:
            self._last, self._last_began_s = self._counts, self._began_s
        else:  # it was idle, at least since the end of that period
            self._last, self._last_began_s = {}, now_s - READS_S
        self._counts, self._began_s = {}, now_s


def _most(counts: dict[str, list[int]], limit: int) -> list[tuple[str, list[int]]]:
    return heapq.nlargest(limit, counts.items(), key=lambda item: item[1][0])


@dataclass(slots=True, eq=False)
class Request:
    """One request to the store. `start` and `stop` are 0 if it is for no range."""

    kind: str
    url: str
    start: int
    stop: int
    began_s: float
    seconds: float = 0.0
    result: str = _RUNNING


class SlowRequests:
    """The requests that run, and the slowest of those that ended within the last minute.

    Safe from several threads: the lock is held for some additions, never over a request.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Begin with none."""
        self._clock = clock
        self._lock = threading.Lock()
        self._running: set[Request] = set()
        self._ended: list[tuple[float, int, Request]] = []  # a heap, the fastest first
        self._numbers = itertools.count()
        self._purged_s = clock()

    def begin(self, kind: str, url: str, wanted: range) -> Request:
        """Record a request that is sent now."""
        request = Request(kind, url, wanted.start, wanted.stop, self._clock())
        with self._lock:
            self._running.add(request)
        return request

    def end(self, request: Request, result: str) -> float:
        """Record its end, and return how many seconds it took."""
        now_s = self._clock()
        request.seconds, request.result = now_s - request.began_s, result
        with self._lock:
            self._running.discard(request)
            entry = (request.seconds, next(self._numbers), request)
            if len(self._ended) < MAX_REQUESTS:
                heapq.heappush(self._ended, entry)
                return request.seconds
            if now_s - self._purged_s >= _PURGE_S:
                self._purge(now_s)
            if len(self._ended) < MAX_REQUESTS:
                heapq.heappush(self._ended, entry)
            elif entry > self._ended[0]:
                heapq.heapreplace(self._ended, entry)
        return request.seconds

    def slowest(self, limit: int) -> list[Request]:
        """Return the slowest first; those that run have taken the time until now."""
        now_s = self._clock()
        with self._lock:
            self._purge(now_s)
            ended = [request for *_, request in self._ended]
            running = [
                Request(one.kind, one.url, one.start, one.stop, one.began_s, now_s - one.began_s)
                for one in self._running
            ]
        return heapq.nlargest(limit, [*running, *ended], key=lambda one: one.seconds)

    def _purge(self, now_s: float) -> None:
        self._purged_s = now_s
        kept = [one for one in self._ended if now_s - _end_s(one[2]) <= REQUESTS_S]
        if len(kept) < len(self._ended):
            heapq.heapify(kept)
            self._ended = kept


def _end_s(request: Request) -> float:
    return request.began_s + request.seconds
