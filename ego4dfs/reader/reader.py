"""Reader: ranges of object versions, from the cache where it can, from the store once where not."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice

from ego4dfs.blocks import (
    BLOCK_SIZE,
    PART_SIZE,
    Entry,
    ObjectRef,
    Span,
    block_entry,
    block_key,
    key_before,
    length_of,
    missing_entries,
    overlapping_keys,
    part_entries,
    requests,
    spans,
)
from ego4dfs.cache import BlockCache
from ego4dfs.errors import ObjectChanged, StoreError, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.reader.background import BackgroundVerifier
from ego4dfs.reader.dispatch import Dispatch
from ego4dfs.reader.flights import ByteBudget, Flight, Flights, Soon
from ego4dfs.reader.window import FIRST, STEP, Window
from ego4dfs.store import ObjectStore

MAX_INFLIGHT_BYTES = 80 * BLOCK_SIZE
SOON_BLOCKS = 16  # less than the threads: nobody who waits has to queue behind a guess
MAX_HOMELESS_BLOCKS = 64  # what is ahead of a reader must not leave before it is read
NEAR = 2 * STEP  # a reader may come there before a whole request has arrived
_MAX_BLOCKS_SEARCHED = 1 << 16  # 64 GiB: an object that is said to be larger may be much larger
_PIECE_BYTES = 32 * BLOCK_SIZE  # a larger read is served piece by piece, within the budget


class Reader:
    """Read byte ranges of objects through the block cache.

    Every missing block is fetched by one request, however many readers wait for it; adjacent
    ones share a request of up to `STEP` bytes. Bytes that wait for the disk count against
    `MAX_INFLIGHT_BYTES`: readers then wait, read-ahead is skipped.

    A read ends within the deadlines of the store, or of those that wait for its flights.

    Safe from several threads. Threads start with the first miss, so a Reader may be made before
    a fork.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: BlockCache,
        metrics: Metrics,
        verifier: BackgroundVerifier | None = None,
    ) -> None:
        """Read from `store` through `cache`, counting into `metrics`.

        What is fetched is compared with its ETag by `verifier`, if there is one.
        """
        self._verifier = verifier
        self._cache = cache
        self._metrics = metrics
        self._flights = Flights()
        self._budget = ByteBudget(MAX_INFLIGHT_BYTES, self._flights.overdue_bytes)
        self._dispatch = Dispatch(store, self._flights, self._budget, self._keep)
        self._soon = Soon(self._flights, SOON_BLOCKS)
        self._homeless: deque[tuple[str, int]] = deque()
        self._lock = threading.Lock()  # guards _homeless

    def read_into(
        self, ref: ObjectRef, offset: int, view: memoryview, window: Window | None = None
    ) -> int:
        """Fill `view` with the bytes from `offset` on and return how many there were.

        Fewer than asked only at the object's end. With a `window` the read counts as one of a
        sequence: what comes next may be fetched ahead, and of what is out of sequence only the
        parts that are read are fetched. Without one, whole blocks are.
        Raises StoreError when bytes can be had neither from the cache nor from the store.
        """
        stop = min(offset + len(view), ref.size)
        filled = 0
        for start in range(offset, stop, _PIECE_BYTES):
            piece_stop = min(stop, start + _PIECE_BYTES)
            part = view[filled : filled + piece_stop - start]
            self._read_piece(ref, start, piece_stop, part, window)
            filled += piece_stop - start
        self._metrics.add_bytes_served(filled)
        return filled

    def confirm_size(self, ref: ObjectRef) -> None:
        """Return when bytes of the object have shown that it has the size of `ref`.

        Cached bytes show it: they came with that size. If the first ones are not cached, what a
        first read would fetch is fetched now, and kept. Raises StoreError when the store sends
        nothing and nothing is cached; ObjectChanged when the object has another size or version.
        """
        if not ref.size or self._has_first_part(ref):
            return
        try:
            sent = self._fetch(ref, range(min(FIRST, ref.size)), PART_SIZE, FIRST)
            self._await(ref, Span(0, 0, 1), memoryview(bytearray(1)), sent)
        except ObjectChanged:
            raise
        except StoreError:
            if not self._has_any_part(ref):
                raise

    def _has_first_part(self, ref: ObjectRef) -> bool:
        return not any(missing_entries(ref, 0, 1, PART_SIZE, self._cache.contains))

    def _has_any_part(self, ref: ObjectRef) -> bool:
        blocks = (block_entry(ref, index) for index in range(ref.block_count))
        return any(
            self._cache.contains(entry.key)
            for block in islice(blocks, _MAX_BLOCKS_SEARCHED)
            for entry in (block, *part_entries(ref, block.start, block.stop))
        )

    def fetch_soon(self, ref: ObjectRef) -> bool:
        """Send for an object of one block that may be read next; False when there is no room."""
        if not self._soon.enter(key := block_key(ref.object_id, 0)):
            return False
        try:
            for request in self._requests(ref, range(ref.size), BLOCK_SIZE):
                if not self._budget.take(length_of(request), wait=False):
                    return False
                self._take_off(ref, request, far=0, urgent=False)
        finally:
            self._soon.entered(key)
        return True

    def admit(self, ref: ObjectRef, index: int, data: memoryview) -> None:
        """Put a block into the cache that came by another way than a read, if there is room."""
        try:
            self._budget.take(len(data), wait=True)
        except StoreUnavailable:
            return  # no memory for it: the next read asks for it again
        claimed = self._claim(ref, [block_entry(ref, index)])
        for flight in claimed:
            flight.land(data)
            self._keep(ref, flight)
        if not claimed:
            self._budget.give_back(len(data))

    def drops(self, ref: ObjectRef) -> int:
        """Count how often cached bytes of this object version were found wrong and dropped."""
        return self._verifier.drops(ref) if self._verifier is not None else 0

    def close(self) -> None:
        """Wait for requests under way, two seconds at most; the cache's writer has their blocks.

        Reads that would need another request fail with StoreUnavailable from now on, and so do
        those that wait for one that hangs.
        """
        if self._verifier is not None:
            self._verifier.close()
        self._dispatch.close()

    def _read_piece(
        self, ref: ObjectRef, start: int, stop: int, view: memoryview, window: Window | None
    ) -> None:
        """Fill `view` with [start, stop), and see to what comes behind it meanwhile."""
        awaited: list[tuple[Span, memoryview]] = []
        position = 0
        for span in spans(start, stop):
            part = view[position : position + span.stop - span.start]
            position += len(part)
            if not self._from_cache(ref, span, part):
                awaited.append((span, part))
        ahead = None
        if window:
            shared = window.skips(start) and self._is_there(key_before(ref, start))
            ahead = window.advance(start, stop, missed=bool(awaited), shared=shared)
        grain = window.grain if window else BLOCK_SIZE
        sent: dict[str, Flight] = {}
        if awaited:
            first = awaited[0][0].place.start
            if ahead is not None and grain == PART_SIZE:
                stop, ahead = ahead.stop, None  # little enough for one request
            sent = self._fetch(ref, range(first, stop), grain, stop)
        if window is not None and ahead is not None:
            self._fetch_ahead(ref, ahead, window, stop + NEAR)
        for span, part in awaited:
            self._await(ref, span, part, sent)

    def _from_cache(self, ref: ObjectRef, span: Span, view: memoryview) -> bool:
        key = block_key(ref.object_id, span.index)
        if self._flights.get(key) is None and (
            self._cache.read_into(key, span.start, view)
            or self._from_parts(ref, span, view, {}, landed=True)
        ):
            self._metrics.add_hit()
            return True
        return False

    def _from_parts(
        self,
        ref: ObjectRef,
        span: Span,
        view: memoryview,
        sent: Mapping[str, Flight],
        *,
        landed: bool,
    ) -> bool:
        """Fill `view` from parts of a block; False when one is not there.

        With `landed`, only those that are on disk are there, else those in flight as well.
        """
        place = span.place
        for part in part_entries(ref, place.start, place.stop):
            first, last = max(part.start, place.start), min(part.stop, place.stop)
            piece = view[first - place.start : last - place.start]
            flight = sent.get(part.key) or self._flights.get(part.key)
            if flight is None:
                if not self._cache.read_into(part.key, first - part.start, piece):
                    return False
            elif landed:
                return False
            else:
                flight.read_into(first - part.start, piece)
        return True

    def _await(
        self, ref: ObjectRef, span: Span, view: memoryview, sent: Mapping[str, Flight]
    ) -> None:
        """Wait for bytes in flight; what has landed and left meanwhile is on disk.

        `sent` are the flights of this very read: one that fails has left the table before we
        look, and its error must not cost another request.
        """
        self._metrics.add_miss()
        key = block_key(ref.object_id, span.index)
        while True:
            flight = sent.get(key) or self._flights.get(key)
            if flight is not None:
                flight.read_into(span.start, view)
                return
            if self._cache.read_into(key, span.start, view):
                return
            if self._from_parts(ref, span, view, sent, landed=False):
                return
            place = span.place
            sent = self._fetch(ref, place, PART_SIZE, place.stop)

    def _fetch(self, ref: ObjectRef, wanted: range, grain: int, far: int) -> dict[str, Flight]:
        """Send for what nobody has sent for, and return its flights by key."""
        sent: dict[str, Flight] = {}
        for request in self._requests(ref, wanted, grain):
            self._budget.take(length_of(request), wait=True)
            sent.update(self._take_off(ref, request, far, urgent=True))
        return sent

    def _fetch_ahead(self, ref: ObjectRef, ahead: range, window: Window, far: int) -> None:
        """Send for what will be wanted soon, as far as the budget has room for it."""
        for request in self._requests(ref, ahead, window.grain):
            if not self._budget.take(length_of(request), wait=False):
                window.retreat(request[0].start)
                return
            self._take_off(ref, request, far, urgent=False)

    def _requests(self, ref: ObjectRef, wanted: range, grain: int) -> Iterator[list[Entry]]:
        missing = missing_entries(ref, wanted.start, wanted.stop, grain, self._is_there)
        return requests(missing, STEP)

    def _take_off(
        self, ref: ObjectRef, request: list[Entry], far: int, *, urgent: bool
    ) -> dict[str, Flight]:
        """Fetch of a request, whose bytes the budget has given, what nobody else fetches."""
        claimed = self._claim(ref, request)
        flights = {flight.entry: flight for flight in claimed if not self._has_landed(flight)}
        self._budget.give_back(length_of(request) - sum(map(len, flights.values())))
        for entries in requests(flights, STEP):
            self._dispatch.send(ref, [flights[entry] for entry in entries], far, urgent=urgent)
        return {flight.entry.key: flight for flight in claimed}

    def _is_there(self, key: str) -> bool:
        return self._flights.get(key) is not None or self._cache.contains(key)

    def _claim(self, ref: ObjectRef, entries: Iterable[Entry]) -> list[Flight]:
        return self._flights.claim((entry, overlapping_keys(ref, entry)) for entry in entries)

    def _has_landed(self, flight: Flight) -> bool:
        """Look again after the claim: an earlier flight may have ended since the first look."""
        key = flight.entry.key
        if not self._cache.contains(key):
            return False
        data = memoryview(bytearray(len(flight)))
        if not self._cache.read_into(key, 0, data):
            return False
        flight.land(data)  # others may have joined this claim meanwhile
        self._flights.end(key)
        return True

    def _keep(self, ref: ObjectRef, flight: Flight) -> None:
        key = flight.entry.key
        self._cache.put(key, ref.url, flight.data, partial(self._ended, ref, key, len(flight)))

    def _ended(self, ref: ObjectRef, key: str, length: int, stored: bool) -> None:  # noqa: FBT001 - as put says it
        """Let go of a block that is on disk; the last few that are not would cost many GETs."""
        if stored and self._verifier is not None:
            self._verifier.stored(ref)
        if not stored:
            with self._lock:
                self._homeless.append((key, length))
                if len(self._homeless) <= MAX_HOMELESS_BLOCKS:
                    return
                key, length = self._homeless.popleft()
        self._flights.end(key)
        self._budget.give_back(length)
