"""The download of one large file, range by range, by several threads."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace

from ego4dfs.blocks import ObjectRef, present_extents
from ego4dfs.cache import BlockCache
from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.prefetch.plan import Item
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.worker_pool import WorkerPool
from ego4dfs.store import ObjectFacts, ObjectStore

NEAR_BYTES, FAR_BYTES = 2 << 20, 8 << 20
"""Bytes of one request. A killed run loses what is in the sockets, at most one request of each:
2 GiB in a run that was killed 20 times needed 1.27 times that with requests of 8 MiB, and 1.08
times with 2 MiB. If the time to first byte is long, small requests would mostly wait."""
FAR_S = 0.025


class Stopped(Exception):  # noqa: N818 - no error: it was requested
    """The run is being stopped; written bytes are kept and resumed."""


@dataclass(slots=True)
class Download:
    """A download: the ranges that no thread fetches yet, and the number of running ones.

    `found` is the checksum of the previous attempt's bytes. The lock of the pool guards `todo`,
    `busy` and `error`.
    """

    item: Item
    facts: ObjectFacts
    part: PartFile
    attempt: int = 0
    found: str = ""
    todo: deque[tuple[int, int]] = field(default_factory=deque)
    busy: int = 0
    error: StoreError | OSError | None = None

    @classmethod
    def of(
        cls, item: Item, facts: ObjectFacts, part: PartFile, attempt: int, found: str
    ) -> Download:
        """Begin with the missing ranges of the part file."""
        if item.facts != facts:
            item = replace(item, facts=facts)
        return cls(item, facts, part, attempt, found, deque(part.missing))

    def take(self, size: int) -> tuple[int, int]:
        """Return the next range to fetch, up to a multiple of `size`, and count it as busy."""
        start, stop = self.todo.popleft()
        border = min(stop, (start // size + 1) * size)
        if border < stop:
            self.todo.appendleft((border, stop))
        self.busy += 1
        return start, border

    @property
    def is_over(self) -> bool:
        """Whether all ranges have ended, with or without an error."""
        return not self.busy and (self.error is not None or not self.todo)


class RangeFetcher:
    """Writes one range of a file to its part file, from the block cache or the store.

    Safe from several threads.
    """

    def __init__(
        self, store: ObjectStore, cache: BlockCache, report: Report, pool: WorkerPool
    ) -> None:
        """Count into `report`; raise Stopped once the pool is abandoned."""
        self._store = store
        self._cache = cache
        self._report = report
        self._pool = pool
        self._cache_has_blocks = len(cache.admin) > 0
        self._first_byte_s = 0.0  # a running mean; a race of two threads loses one value

    @property
    def range_bytes(self) -> int:
        """The bytes of one request, by the recent time to first byte."""
        return FAR_BYTES if self._first_byte_s > FAR_S else NEAR_BYTES

    def first_byte_took(self, seconds: float) -> None:
        """Record the time to first byte of one answer."""
        self._first_byte_s += (seconds - self._first_byte_s) / 8

    def fetch(self, download: Download, start: int, stop: int) -> None:
        """Fetch [start, stop) and record each piece as it arrives.

        Raises StoreError; what arrived before is recorded.
        """
        row = position = start
        while position < stop:
            position = self._take_cached(download, row, position, stop)
            if position < stop:
                position = self._stream(
                    download, row, position, self._uncached(download, position, stop)
                )

    def read_cached(self, ref: ObjectRef) -> memoryview | None:
        """Return a whole small object if the cache has all of it."""
        if not self._cache_has_blocks:
            return None
        data = memoryview(bytearray(ref.size))
        position = 0
        for extent in present_extents(ref, 0, ref.size, self._cache.contains):
            view = data[extent.start : extent.stop]
            if extent.start != position or not self._cache.read_into(extent.key, 0, view):
                return None
            position = extent.stop
        return data if position == ref.size else None

    def _take_cached(self, download: Download, row: int, position: int, stop: int) -> int:
        if not self._may_be_cached(download):
            return position
        for extent in present_extents(self._ref(download), position, stop, self._cache.contains):
            view = memoryview(bytearray(min(extent.stop, stop) - position))
            is_next = extent.start <= position
            if not is_next or not self._cache.read_into(extent.key, position - extent.start, view):
                break
            self._write(download, row, position, view, fetched=0, cached=len(view))
            position += len(view)
        return position

    def _uncached(self, download: Download, position: int, stop: int) -> int:
        """Return where the next cached block or part begins, or `stop`."""
        if self._may_be_cached(download):
            for extent in present_extents(
                self._ref(download), position, stop, self._cache.contains
            ):
                if extent.start > position:
                    return extent.start
        return stop

    def _may_be_cached(self, download: Download) -> bool:
        """Return whether to look in the cache: not after its bytes were found wrong."""
        return self._cache_has_blocks and not download.attempt

    def _stream(self, download: Download, row: int, position: int, stop: int) -> int:
        """Fetch what is not in the cache; an answer with new bytes resets the retries."""
        outage = self._report.outage
        budget = outage.retry_budget()
        while position < stop:
            sink = _Sink(self, download, row, position)
            try:
                self._store.stream_range(
                    download.item.url,
                    position,
                    stop,
                    sink,
                    etag=download.facts.etag,
                    size=download.facts.size,
                )
            except StoreUnavailable as error:
                if not budget.allows(error, is_further=sink.position > position):
                    raise
            else:
                outage.answered()
            position = sink.position
        return position

    def _write(
        self,
        download: Download,
        row: int,
        offset: int,
        data: memoryview,
        *,
        fetched: int,
        cached: int,
    ) -> None:
        if self._pool.abandoned.is_set():
            raise Stopped
        download.part.write(row, offset, data)
        self._report.moved(download.item.path, fetched=fetched, cached=cached)

    def _ref(self, download: Download) -> ObjectRef:
        facts = download.facts
        return ObjectRef.of(self._store.source, download.item.url, facts.size, facts.etag)


class _Sink:
    """Writes the bytes of a stream, and records its position."""

    def __init__(self, fetcher: RangeFetcher, download: Download, row: int, position: int) -> None:
        self._fetcher = fetcher
        self._download = download
        self._row = row
        self._began_s = time.monotonic()
        self.position = position

    def __call__(self, offset: int, data: memoryview) -> None:
        if self._began_s:
            self._fetcher.first_byte_took(time.monotonic() - self._began_s)
            self._began_s = 0.0
        self._fetcher._write(self._download, self._row, offset, data, fetched=len(data), cached=0)  # noqa: SLF001 - one unit
        self.position = offset + len(data)
