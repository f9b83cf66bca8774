"""Downloads: missing blocks and parts are fetched once, and kept in the block cache."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ego4dfs.blocks import (
    BLOCK_SIZE,
    PART_SIZE,
    Extent,
    ObjectRef,
    block_key,
    join_adjacent,
    missing_extents,
    overlapping_keys,
    total_bytes,
)
from ego4dfs.cache import BlockCache
from ego4dfs.reader.arrivals import Arrivals
from ego4dfs.reader.background_verifier import BackgroundVerifier
from ego4dfs.reader.fetch_locks import FetchLocks
from ego4dfs.reader.fetch_pool import FetchPool
from ego4dfs.reader.flight import Flight
from ego4dfs.reader.flights import ByteBudget, Flights, SpeculativeSlots, UnwrittenBytes
from ego4dfs.reader.hedging import Hedging
from ego4dfs.reader.window import READAHEAD_STEP
from ego4dfs.runtime.memory_limit import within_memory_limit
from ego4dfs.store import ObjectStore

MAX_INFLIGHT_BYTES = 80 * BLOCK_SIZE
MAX_SPECULATIVE_BLOCKS = 16  # fewer than the threads, so that no reader waits behind them
MAX_UNSTORED_BLOCKS = 64  # read-ahead must stay in memory until it is read
MAX_UNSTORED_AHEAD = 2 * READAHEAD_STEP  # of one reader: a quarter, so that four can share it

OnArrival = Callable[[str, int, str], None]


class Downloads:
    """Fetches what is neither cached nor in flight, and hands it to the cache.

    Each missing block or part is fetched by one request, however many readers and processes want
    it; adjacent ones share a request of up to `READAHEAD_STEP` bytes. Bytes that wait for the disk
    count against `MAX_INFLIGHT_BYTES`, or less where memory is limited.

    Safe from several threads. Threads start with the first request, so this may be made before a
    fork.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: BlockCache,
        verifier: BackgroundVerifier | None = None,
        on_arrival: OnArrival | None = None,
        hedging: Hedging | None = None,
    ) -> None:
        """Fetch from `store` into `cache`; `verifier` is notified of what was kept there.

        `on_arrival` is called with URL, size and ETag of the object version for each block or part
        that the store has sent; its response had this size. Late requests are hedged as `hedging`
        says, if it is given.
        """
        self._on_arrival = on_arrival
        self._cache = cache
        self._verifier = verifier
        self._flights = Flights()
        max_bytes = within_memory_limit(MAX_INFLIGHT_BYTES)
        arrivals = Arrivals()
        self._budget = ByteBudget(max_bytes, self._flights.overdue_bytes, arrivals)
        # Room for two requests stays free: what the disk does not take must not block all readers.
        most_unstored = max(0, max_bytes - 2 * READAHEAD_STEP) // BLOCK_SIZE
        self._max_unstored = min(MAX_UNSTORED_BLOCKS, most_unstored)
        self._locks = FetchLocks(cache)
        self._pool = FetchPool(
            store, self._flights, self._budget, self._locks, arrivals, self._complete, hedging
        )
        self._speculative = SpeculativeSlots(self._flights, MAX_SPECULATIVE_BLOCKS)
        self.unwritten = UnwrittenBytes()
        self._unstored: deque[Flight] = deque()
        self._is_storing = True  # whether the cache has kept the last block
        self._lock = threading.Lock()  # guards _unstored and _is_storing

    @property
    def in_flight(self) -> int:
        """How many blocks and parts are being fetched or written."""
        return len(self._flights)

    @property
    def speculative(self) -> int:
        """How many of them are read-ahead of small objects."""
        return len(self._speculative)

    @property
    def unstored(self) -> int:
        """How many blocks stay in memory because the cache could not keep them."""
        return len(self._unstored)

    @property
    def memory_bytes(self) -> int:
        """Bytes that are in flight, or wait for the disk."""
        return self._budget.used_bytes

    @property
    def is_memory_scarce(self) -> bool:
        """Whether reads wait long for memory: they should ask for no more than they need."""
        return self._budget.is_scarce

    @property
    def closed(self) -> bool:
        """Whether it is closed, so that new requests fail."""
        return self._pool.closed

    def flight(self, key: str) -> Flight | None:
        """Return the flight of a block or a part, or None."""
        return self._flights.get(key)

    def has(self, key: str) -> bool:
        """Return whether a block or a part is in flight or cached."""
        return self._flights.get(key) is not None or self._cache.contains(key)

    def fetch(
        self,
        ref: ObjectRef,
        wanted: range,
        granularity: int,
        stream_before: int = 0,
        *,
        again: bool = False,
        request_bytes: int = READAHEAD_STEP,
    ) -> dict[str, Flight]:
        """Request what is missing of `wanted`, and return the flights that this began, by key.

        No request is longer than `request_bytes`. Waits for memory. A request that begins before
        `stream_before` is streamed to its readers. Raises StoreUnavailable if memory does not
        become free in time, or if the object could not be fetched a short time ago; with `again`,
        that does not matter.
        """
        failure = None if again else self._pool.recent_failure(ref)
        begun: dict[str, Flight] = {}
        for request in self._requests(ref, wanted, granularity, request_bytes):
            if failure is not None:
                raise failure
            self._budget.acquire(total_bytes(request), wait=True)
            claimed = self._claim(ref, request)
            begun.update({flight.extent.key: flight for flight in claimed})
            self._submit(ref, request, claimed, stream_before, urgent=True)
        return begun

    def fetch_ahead(
        self,
        ref: ObjectRef,
        wanted: range,
        granularity: int,
        stream_before: int,
        *,
        request_bytes: int = READAHEAD_STEP,
    ) -> int:
        """Request what is missing of `wanted` while there is memory; return where that ended.

        No request is longer than `request_bytes`. Nothing is requested of an object that could not
        be fetched a short time ago.
        """
        if self._pool.recent_failure(ref) is not None:
            return wanted.start
        for request in self._requests(ref, wanted, granularity, request_bytes):
            if not self._budget.acquire(total_bytes(request), wait=False):
                return request[0].start
            self._submit(ref, request, self._claim(ref, request), stream_before, urgent=False)
        return wanted.stop

    def bound_ahead(self, ahead: range, stop: int) -> range:
        """Return what of `ahead` can wait in memory for a reader that has reached `stop`.

        All of it while the cache keeps what is fetched. Otherwise more would displace the blocks
        that this reader needs next, and each would be requested twice.
        """
        if self._is_storing:
            return ahead
        most = min(MAX_UNSTORED_AHEAD, self._max_unstored * BLOCK_SIZE // 4)
        limit = (stop + most) // READAHEAD_STEP * READAHEAD_STEP
        return range(ahead.start, max(ahead.start, min(ahead.stop, limit)))

    def prefetch_small(self, ref: ObjectRef) -> bool:
        """Request an object of one block that may be read next; False if there is no memory."""
        if not self._speculative.reserve(key := block_key(ref.object_id, 0)):
            return False
        try:
            return self.fetch_ahead(ref, range(ref.size), BLOCK_SIZE, 0) == ref.size
        finally:
            self._speculative.submitted(key)

    def put(self, ref: ObjectRef, start: int, data: memoryview) -> None:
        """Keep whole parts that were fetched elsewhere, if there is memory for them."""
        if not self._budget.acquire(len(data), wait=False):
            return  # the next read requests them again
        stop = start + len(data)
        extents = missing_extents(ref, start, stop, PART_SIZE, self._cache.contains)
        claimed = self._claim(ref, extents)
        for flight in claimed:
            extent = flight.extent
            self._locks.acquire(ref, extent.start, extent.stop)
            flight.complete(data[extent.start - start : extent.stop - start])
            self._store(ref, flight)
        self._budget.release(len(data) - sum(map(len, claimed)))

    def close(self) -> None:
        """Wait up to two seconds for running requests, and hand their blocks to the cache.

        New requests fail with StoreUnavailable from now on, and so do reads that wait for a
        request that hangs, or for memory.
        """
        self._budget.close()
        self._pool.close()

    def _requests(
        self, ref: ObjectRef, wanted: range, granularity: int, request_bytes: int
    ) -> Iterator[list[Extent]]:
        missing = missing_extents(ref, wanted.start, wanted.stop, granularity, self.has)
        return join_adjacent(missing, request_bytes)

    def _claim(self, ref: ObjectRef, extents: Iterable[Extent]) -> list[Flight]:
        """Return flights for what is not in flight; FetchLocks finds what was stored meanwhile."""
        return self._flights.claim(_keyed(ref, extents))

    def _submit(
        self,
        ref: ObjectRef,
        request: list[Extent],
        claimed: list[Flight],
        stream_before: int,
        *,
        urgent: bool,
    ) -> None:
        """Fetch the claimed extents of an admitted request; other threads fetch its other ones."""
        flights = {flight.extent: flight for flight in claimed}
        self._budget.release(total_bytes(request) - sum(map(len, claimed)))
        for extents in join_adjacent(flights, READAHEAD_STEP):
            adjacent = [flights[extent] for extent in extents]
            self._pool.submit(ref, adjacent, stream_before, urgent=urgent)

    def _complete(self, ref: ObjectRef, flight: Flight, is_fetched: bool) -> None:  # noqa: FBT001 - as the sink calls it
        if is_fetched:
            self._store(ref, flight)
        else:
            self._locks.release(flight.extent)
            flight.report_stored(is_stored=True)
            self._end(flight)

    def _store(self, ref: ObjectRef, flight: Flight) -> None:
        if self._on_arrival is not None:
            self._on_arrival(ref.url, ref.size, ref.etag)
        self.unwritten.add(len(flight))
        done = partial(self._stored, ref, flight)
        self._cache.put(flight.extent.key, ref.url, flight.data, done)

    def _stored(self, ref: ObjectRef, flight: Flight, is_stored: bool) -> None:  # noqa: FBT001 - as put calls it
        """Drop a stored block from memory; keep the last few others, which would cost GETs.

        Each block that is stored again displaces one of these.
        """
        self.unwritten.add(-len(flight))
        self._locks.stored(flight.extent, is_stored=is_stored)
        if is_stored and self._verifier is not None:
            self._verifier.stored(ref)
        flight.report_stored(is_stored=is_stored)
        ended = [flight] if is_stored else []
        with self._lock:
            self._is_storing = is_stored
            if not is_stored:
                self._unstored.append(flight)
            if self._unstored and (is_stored or len(self._unstored) > self._max_unstored):
                ended.append(self._unstored.popleft())
        for one in ended:
            self._end(one)

    def _end(self, flight: Flight) -> None:
        self._flights.remove(flight)
        self._budget.release(len(flight))


def _keyed(ref: ObjectRef, extents: Iterable[Extent]) -> Iterator[tuple[Extent, tuple[str, ...]]]:
    """Yield each extent with the keys under which some of its bytes may be in flight or cached."""
    for extent in extents:
        yield extent, (extent.key, *overlapping_keys(ref, extent))
