"""Reader: ranges of object versions, from the cache where it can, from the store once where not."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ego4dfs.blocks import BLOCK_SIZE, ObjectRef, Span, block_key, runs, spans
from ego4dfs.cache import BlockCache
from ego4dfs.errors import StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.reader.flights import ByteBudget, Flight, Flights
from ego4dfs.reader.window import Window
from ego4dfs.store import ObjectStore

MAX_REQUEST_BLOCKS = 8
MAX_INFLIGHT_BYTES = 96 * BLOCK_SIZE
FETCH_THREADS = 16
MAX_HOMELESS_BLOCKS = 32

_PIECE_BYTES = 32 * BLOCK_SIZE  # a larger read is served piece by piece, within the budget


class Reader:
    """Read byte ranges of objects through the block cache.

    Every missing block is fetched by one request, however many readers wait for it; adjacent
    ones share a request of up to `MAX_REQUEST_BLOCKS`. Bytes that wait for the disk count against
    `MAX_INFLIGHT_BYTES`: readers then wait, read-ahead is skipped.

    Safe from several threads. Threads start with the first miss, so a Reader may be made before
    a fork.
    """

    def __init__(self, store: ObjectStore, cache: BlockCache, metrics: Metrics) -> None:
        """Read from `store` through `cache`, counting into `metrics`."""
        self._store = store
        self._cache = cache
        self._metrics = metrics
        self._flights = Flights()
        self._budget = ByteBudget(MAX_INFLIGHT_BYTES)
        self._pool: ThreadPoolExecutor | None = None
        self._homeless: deque[tuple[str, int]] = deque()
        self._closed = False
        self._lock = threading.Lock()  # guards the start and the end of the pool, and _homeless

    def read_into(
        self, ref: ObjectRef, offset: int, view: memoryview, window: Window | None = None
    ) -> int:
        """Fill `view` with the bytes from `offset` on and return how many there were.

        Fewer than asked only at the object's end. With a `window` the read counts as one of a
        sequence, and what comes next may be fetched ahead.
        Raises StoreError when a block can be had neither from the cache nor from the store.
        """
        stop = min(offset + len(view), ref.size)
        filled, missed = 0, False
        for start in range(offset, stop, _PIECE_BYTES):
            piece_stop = min(stop, start + _PIECE_BYTES)
            part = view[filled : filled + piece_stop - start]
            missed |= self._read_piece(ref, start, piece_stop, part)
            filled += piece_stop - start
        if window is not None and filled:
            ahead = window.advance(offset, stop, missed=missed)
            if ahead is not None:
                self._fetch_ahead(ref, ahead.start, min(ahead.stop, ref.size))
        self._metrics.add("bytes_served", filled)
        return filled

    def admit(self, ref: ObjectRef, index: int, data: memoryview) -> None:
        """Put a block into the cache that came by another way than a read."""
        if self._flights.claim(ref, [index]):
            self._budget.take(len(data), wait=True)
            self._land(ref, range(index, index + 1), data)

    def close(self) -> None:
        """Wait for requests under way; the cache's writer still has their blocks.

        Reads that would need another request fail with StoreUnavailable from now on.
        """
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=False)

    def _read_piece(self, ref: ObjectRef, start: int, stop: int, view: memoryview) -> bool:
        """Fill `view` with [start, stop); return whether a block of it was not in the cache."""
        position, sent = 0, None
        for span in spans(start, stop):
            part = view[position : position + span.stop - span.start]
            position += len(part)
            if self._from_cache(ref, span, part):
                continue
            if sent is None:
                missing = self._missing(ref, span.index, -(-stop // BLOCK_SIZE))
                sent = self._fetch(ref, missing, wait=True)
            self._from_store(ref, span, part, sent.get(span.index))
        return sent is not None

    def _from_cache(self, ref: ObjectRef, span: Span, part: memoryview) -> bool:
        key = block_key(ref.object_id, span.index)
        if self._flights.get(key) is None and self._cache.read_into(key, span.start, part):
            self._metrics.add("hits")
            return True
        return False

    def _from_store(
        self, ref: ObjectRef, span: Span, part: memoryview, flight: Flight | None
    ) -> None:
        """Wait for a block in flight; one that has landed and left meanwhile is on disk.

        `flight` is the block's own if this read has sent for it: a flight that fails has left
        the table before we look, and its error must not cost another request.
        """
        self._metrics.add("misses")
        key = block_key(ref.object_id, span.index)
        while True:
            flight = flight or self._flights.get(key)
            if flight is not None:
                part[:] = flight.result()[span.start : span.stop]
                return
            if self._cache.read_into(key, span.start, part):
                return
            flight = self._fetch(ref, [span.index], wait=True).get(span.index)

    def _missing(self, ref: ObjectRef, first: int, stop: int) -> list[int]:
        return [
            index
            for index in range(first, stop)
            if not self._cache.contains(block_key(ref.object_id, index))
        ]

    def _fetch_ahead(self, ref: ObjectRef, start: int, stop: int) -> None:
        first = -(-start // BLOCK_SIZE)  # the block that holds `start` itself was just read
        self._fetch(ref, self._missing(ref, first, -(-stop // BLOCK_SIZE)), wait=False)

    def _fetch(self, ref: ObjectRef, indexes: Iterable[int], *, wait: bool) -> dict[int, Flight]:
        """Send for the blocks that nobody has sent for, and return their flights.

        Without `wait`, only for as many as the budget has room for.
        """
        sent: dict[int, Flight] = {}
        for run in runs(indexes, MAX_REQUEST_BLOCKS):
            length = min(run.stop * BLOCK_SIZE, ref.size) - run.start * BLOCK_SIZE
            if not self._budget.take(length, wait=wait):
                break
            flights = self._flights.claim(ref, run)
            sent.update(flights)
            claimed = [index for index in flights if not self._has_landed(ref, index)]
            spare = length - sum(ref.block_length(index) for index in claimed)
            self._budget.give_back(spare)
            for part in runs(claimed, MAX_REQUEST_BLOCKS):
                self._send(ref, part)
        return sent

    def _has_landed(self, ref: ObjectRef, index: int) -> bool:
        """Look again after the claim: an earlier flight may have ended since the first look."""
        key = block_key(ref.object_id, index)
        if not self._cache.contains(key):
            return False
        block = memoryview(bytearray(ref.block_length(index)))
        if not self._cache.read_into(key, 0, block):
            return False
        self._flights.land(key, block)  # others may have joined this claim meanwhile
        self._flights.end(key)
        return True

    def _send(self, ref: ObjectRef, run: range) -> None:
        try:
            with self._lock:
                if self._pool is None and not self._closed:
                    self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
                pool = self._pool
                if pool is not None:
                    pool.submit(self._fly, ref, run)
                    return
            error: Exception = StoreUnavailable("the filesystem is closed", url=ref.url)
        except RuntimeError as no_thread:
            error = no_thread
        self._crash(ref, run, error)

    def _fly(self, ref: ObjectRef, run: range) -> None:
        start, stop = run.start * BLOCK_SIZE, min(run.stop * BLOCK_SIZE, ref.size)
        try:
            data = self._read_exactly(ref, start, stop)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            self._crash(ref, run, error)
        else:
            self._land(ref, run, data)

    def _read_exactly(self, ref: ObjectRef, start: int, stop: int) -> memoryview:
        fetched = self._store.read_range(ref.url, start, stop, etag=ref.etag)
        if len(fetched.data) != stop - start or fetched.start != start:
            raise StoreUnavailable(f"{ref.url}: the store sent another range", url=ref.url)
        return fetched.data

    def _crash(self, ref: ObjectRef, run: range, error: BaseException) -> None:
        for index in run:
            self._budget.give_back(ref.block_length(index))
            self._flights.fail(block_key(ref.object_id, index), error)

    def _land(self, ref: ObjectRef, run: range, data: memoryview) -> None:
        for index in run:
            start = (index - run.start) * BLOCK_SIZE
            block = data[start : start + ref.block_length(index)]
            key = block_key(ref.object_id, index)
            self._flights.land(key, block)
            self._cache.put(key, ref.url, block, _Ending(self, key, len(block)))

    def _ended(self, key: str, length: int, *, stored: bool) -> None:
        """Let go of a block that is on disk; keep the last few that the disk did not take.

        A kernel reads one block by several requests: without those, a full disk would cost as
        many GETs.
        """
        if not stored:
            with self._lock:
                self._homeless.append((key, length))
                if len(self._homeless) <= MAX_HOMELESS_BLOCKS:
                    return
                key, length = self._homeless.popleft()
        self._flights.end(key)
        self._budget.give_back(length)


class _Ending:
    """Called once a block needs no memory any more: by the cache's writer, or for want of one."""

    __slots__ = ("_key", "_length", "_reader")

    def __init__(self, reader: Reader, key: str, length: int) -> None:
        self._reader, self._key, self._length = reader, key, length

    def __call__(self, stored: bool) -> None:  # noqa: FBT001 - its only argument
        self._reader._ended(self._key, self._length, stored=stored)  # noqa: SLF001 - one unit
