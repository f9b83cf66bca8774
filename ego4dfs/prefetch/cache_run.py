"""CacheRun: threads that fetch parts of objects into the block cache, and the report of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from ego4dfs.blocks import (
    BLOCK_SIZE,
    PART_SIZE,
    Extent,
    ObjectRef,
    block_extent,
    block_extents,
    join_adjacent,
    missing_extents,
    overlapping_keys,
    part_extents,
    present_extents,
    total_bytes,
)
from ego4dfs.cache.blockfile import allocated_bytes
from ego4dfs.errors import MediaError, StoreError
from ego4dfs.prefetch.outage import Outage
from ego4dfs.prefetch.plan import Item
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.run_threads import RunThreads
from ego4dfs.prefetch.worker_pool import Next
from ego4dfs.reader import Downloads
from ego4dfs.reader.flight import Flight
from ego4dfs.runtime.memory_limit import within_memory_limit
from ego4dfs.session import Session

_REQUEST_BYTES = 4 * BLOCK_SIZE  # of each thread: together below what Downloads keeps in memory
_THREADS = 16
_END_S = 60.0  # a running request ends earlier, by its own time-out
CACHE_WRITE_S = 300.0
"""How long one request's bytes wait for the cache's writer."""

Ranges = Sequence[range]
"""Ranges of bytes of an object, in order, disjoint, each of whole parts."""


class CacheRun:
    """One run of tasks that fetch into the cache, except what is cached.

    An object that cannot be fetched does not stop the others. Its own threads are the only ones
    that may share it; `_lock` guards which objects have failed.
    """

    def __init__(self, session: Session, retry_for_s: float) -> None:
        """Fetch with the store and cache of `session`; retry for so long during an outage."""
        self._threads = RunThreads(self.stop)
        self.pool = self._threads.pool
        self.report = Report(outage=Outage(retry_for_s, self.pool.stopping))
        self._source = session.store.source
        self._cache = session.cache
        self._downloads = Downloads(session.store, session.cache, on_arrival=session.facts.confirm)
        self._lock = threading.Lock()
        self._failed: set[str] = set()

    def run(self, take: Next, tick: Callable[[], None]) -> bool:
        """Run the tasks that `take` returns; return whether all threads have ended.

        Calls `tick` several times a second from this thread. KeyboardInterrupt, and errors that
        would fail every object, stop the run and are then in `report.stopped_by`.
        """
        together = within_memory_limit(_THREADS * _REQUEST_BYTES, least=_REQUEST_BYTES)
        self.pool.add("cache-warm", take, together // _REQUEST_BYTES)
        has_ended = self._threads.run(tick, lambda: 0.5 if self.report.stopped_by else _END_S)
        if has_ended:
            self._downloads.close()
        return has_ended

    def stop(self, error: BaseException) -> None:
        """Record what ends the run."""
        self.report.stop(error)

    def ref(self, item: Item) -> ObjectRef:
        """Return the object version of an item, whose facts are known."""
        if item.facts is None:  # pragma: no cover -- all callers leave such items out
            raise ValueError(f"{item.path}: its facts are unknown")
        return ObjectRef.of(self._source, item.url, item.facts.size, item.facts.etag)

    def missing(self, ref: ObjectRef, ranges: Ranges | None) -> list[list[Extent]]:
        """Return the requests that fetch what is not cached of these ranges, or of all."""
        wanted = [(range(ref.size), BLOCK_SIZE)] if ranges is None else []
        wanted += [(part, PART_SIZE) for part in ranges or ()]
        missing = (
            extent
            for part, unit in wanted
            for extent in missing_extents(ref, part.start, part.stop, unit, self._cache.contains)
        )
        return list(join_adjacent(missing, _REQUEST_BYTES))

    def keys(self, ref: ObjectRef, ranges: Ranges | None) -> Iterator[str]:
        """Yield the keys under which these ranges, or all of an object, may be cached."""
        for part in [range(ref.size)] if ranges is None else ranges:
            for index in range(part.start // BLOCK_SIZE, -(-part.stop // BLOCK_SIZE)):
                block = block_extent(ref, index)
                yield block.key
                if not self._cache.contains(block.key):
                    first, stop = max(part.start, block.start), min(part.stop, block.stop)
                    yield from (extent.key for extent in part_extents(ref, first, stop))

    def bytes_to_keep(
        self, ref: ObjectRef, ranges: Ranges, pinned: AbstractSet[str] = frozenset()
    ) -> int:
        """Return how much of the disk these ranges take in the cache, less what is `pinned`.

        A block that is cached as a whole counts as a whole, as it is pinned: its parts are not
        kept apart.
        """
        has = self._cache.contains
        kept: set[Extent] = set()  # two ranges may be in one block
        for part in ranges:
            kept.update(missing_extents(ref, part.start, part.stop, PART_SIZE, has))
            kept.update(present_extents(ref, part.start, part.stop, has))
        return sum(allocated_bytes(e.stop - e.start) for e in kept if e.key not in pinned)

    def fetch(self, ref: ObjectRef, request: list[Extent]) -> int:
        """Fetch a request, wait until the cache has its bytes, and return how many were fetched.

        It is tried again during an outage. Raises StoreError, even if only the cache cannot keep
        the bytes.
        """
        fetched = self.report.outage.attempt(lambda: self._fetch_once(ref, request))
        self._threads.succeeded()
        return fetched

    def _fetch_once(self, ref: ObjectRef, request: list[Extent]) -> int:
        wanted = range(request[0].start, request[-1].stop)
        begun = self._downloads.fetch(ref, wanted, PART_SIZE)
        stored: set[str] = set()
        for key, flight in self._in_flight(ref, request, begun).items():
            if flight.wait_stored(CACHE_WRITE_S):
                stored.add(key)
            else:
                self._check_kept(ref, range(flight.extent.start, flight.extent.stop), stored)
        self._check_kept(ref, wanted, stored)
        return sum(map(len, begun.values()))

    def _in_flight(
        self, ref: ObjectRef, request: list[Extent], begun: dict[str, Flight]
    ) -> dict[str, Flight]:
        """Return the flights of `begun`, and those of other requests that have bytes of this."""
        keys = [key for e in request for key in (e.key, *overlapping_keys(ref, e))]
        running = ((key, self._downloads.flight(key)) for key in dict.fromkeys(keys))
        return begun | {key: flight for key, flight in running if flight is not None}

    def _check_kept(self, ref: ObjectRef, part: range, stored: set[str]) -> None:
        """Raise StoreError if some of these bytes were neither `stored` nor are cached now.

        Whichever keys have them: another process may have stored a block as parts meanwhile, or
        parts as a block.
        """
        missing = missing_extents(
            ref,
            part.start,
            part.stop,
            PART_SIZE,
            lambda key: key in stored or self._cache.contains(key),
        )
        if any(missing):
            reason = "its disk is full or does not answer, or the rest is pinned"
            raise StoreError(f"{ref.url}: the cache could not keep it: {reason}", url=ref.url)

    def has_failed(self, item: Item) -> bool:
        """Return whether an object could not be fetched."""
        return item.path in self._failed

    def fail(self, item: Item, error: StoreError | MediaError) -> None:
        """Count an object that could not be fetched; raise an error that affects all objects."""
        if not self._threads.is_failure(error):
            return
        with self._lock:
            if item.path in self._failed:
                return
            self._failed.add(item.path)
        self.report.end(item.path)
        self.report.give_up(item, error)
        self._threads.failed(error)


def bytes_on_disk(ref: ObjectRef) -> int:
    """Return how much of the disk a whole object takes in the cache."""
    return sum(allocated_bytes(stop - start) for _, start, stop in block_extents(ref))


def count_bytes(requests: list[list[Extent]]) -> int:
    """Count the bytes of requests."""
    return sum(map(total_bytes, requests))
