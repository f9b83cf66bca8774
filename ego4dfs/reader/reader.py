"""Reader: byte ranges of object versions, from the block cache or by Downloads, with read-ahead."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from ego4dfs.blocks import (
    BLOCK_SIZE,
    PART_SIZE,
    ObjectRef,
    Span,
    block_key,
    missing_extents,
    part_extents,
    spans,
)
from ego4dfs.cache import BlockCache
from ego4dfs.errors import StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.reader.background_verifier import BackgroundVerifier
from ego4dfs.reader.downloads import Downloads, OnArrival
from ego4dfs.reader.flight import Flight, GivenUpError, read_deadline
from ego4dfs.reader.hedging import Hedging
from ego4dfs.reader.window import FIRST_AT_START, READAHEAD_STEP, SEQUENTIAL_AFTER, Window
from ego4dfs.runtime.deadline import ANSWER_S, Deadline
from ego4dfs.store import ObjectStore

STREAM_AHEAD = 2 * READAHEAD_STEP  # a reader may get there before a whole response has arrived
_POLL_S = 0.01
_PIECE_BYTES = 32 * BLOCK_SIZE  # a larger read is served piece by piece, within the budget


class Reader:
    """Reads byte ranges of objects through the block cache.

    A read ends within the deadlines of the store and of flights. Bytes that wait for the disk are
    bounded by Downloads: readers then wait, and read-ahead is left out.

    Safe from several threads. Threads start with the first miss, so a Reader may be made before
    a fork.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: BlockCache,
        metrics: Metrics,
        verifier: BackgroundVerifier | None = None,
        on_arrival: OnArrival | None = None,
        hedging: Hedging | None = None,
    ) -> None:
        """Read from `store` through `cache`, counting into `metrics`.

        What is fetched is compared with its ETag by `verifier`, if there is one. See Downloads for
        `on_arrival` and `hedging`.
        """
        self._verifier = verifier
        self._cache = cache
        self._metrics = metrics
        self.downloads = Downloads(store, cache, verifier, on_arrival, hedging)

    def read_into(
        self, ref: ObjectRef, offset: int, view: memoryview, window: Window | None = None
    ) -> int:
        """Fill `view` with the bytes from `offset` on and return their number.

        Fewer than requested only at the object's end. With a `window` the read counts as one of a
        sequence: what comes next may be fetched ahead, and a read elsewhere fetches only the
        parts that it needs. Without one, whole blocks are fetched.
        Raises StoreError when neither the cache nor the store has the bytes.
        """
        stop = min(offset + len(view), ref.size)
        filled = fetched = 0
        for start in range(offset, stop, _PIECE_BYTES):
            piece_stop = min(stop, start + _PIECE_BYTES)
            piece = view[filled : filled + piece_stop - start]
            if missed := self._read_piece(ref, start, piece_stop, piece, window):
                self.downloads.unwritten.wait()
            filled += piece_stop - start
            fetched += missed
        self._metrics.add_bytes_served(filled, from_cache=filled - fetched)
        if fetched and window is not None:
            window.add_missed(fetched)
        return filled

    def confirm_size(self, ref: ObjectRef, first_bytes: int = FIRST_AT_START) -> None:
        """Wait until bytes of the object have confirmed that it has the size of `ref`.

        Cached bytes confirm it: they arrived with that size. If none are cached, the first
        `first_bytes`, which a program reads next, are fetched now, and cached. Raises StoreError if
        the store does not send them, and ObjectChanged if the object has another size or version.
        """
        if not ref.size:
            return
        begun: Mapping[str, Flight] = {}
        first_block = block_key(ref.object_id, 0)
        if ref.size > PART_SIZE or self.downloads.flight(first_block) is None:
            if self._has_first_part(ref):
                return
            if ref.size > PART_SIZE and self._cache.has_any(ref.object_id):
                return
            first = range(min(first_bytes, ref.size))
            begun = self.downloads.fetch(ref, first, PART_SIZE, first_bytes)
        self._await(ref, Span(0, 0, 1), memoryview(bytearray(1)), begun)

    def read_cached(self, ref: ObjectRef, offset: int, length: int) -> bytes | None:
        """Return `length` bytes from `offset` on if all are cached or have arrived, else None.

        Makes no request, and does not wait for one.
        """
        buffer = bytearray(length)
        view = memoryview(buffer)
        for span in spans(offset, offset + length):
            first = span.place.start - offset
            if not self._read_arrived(ref, span, view[first : first + len(span.place)]):
                return None
        return bytes(buffer)

    def prefetch_small(self, ref: ObjectRef) -> bool:
        """Request an object of one block that may be read next; False if there is no memory."""
        return self.downloads.prefetch_small(ref)

    def request_parts(
        self, ref: ObjectRef, ranges: Iterable[range], request_bytes: int = READAHEAD_STEP
    ) -> bool:
        """Request what is missing of these ranges, in parts, all at once, and do not wait.

        No request is longer than `request_bytes`. Reads of the ranges wait for these requests.
        Returns False if there was no memory for all.
        """
        ends = (
            self.downloads.fetch_ahead(
                ref, wanted, PART_SIZE, wanted.stop, request_bytes=request_bytes
            )
            >= wanted.stop
            for wanted in ranges
        )
        return all(ends)

    def put(self, ref: ObjectRef, start: int, data: memoryview) -> None:
        """Keep whole parts that were fetched elsewhere, if there is memory for them."""
        self.downloads.put(ref, start, data)

    def drops(self, ref: ObjectRef) -> int:
        """Return how often the bytes of this object version were found wrong and dropped."""
        return self._verifier.drops(ref) if self._verifier is not None else 0

    def close(self) -> None:
        """Close the verifier, and the downloads as `Downloads.close` says."""
        if self._verifier is not None:
            self._verifier.close()
        self.downloads.close()

    def _read_piece(
        self, ref: ObjectRef, start: int, stop: int, view: memoryview, window: Window | None
    ) -> int:
        """Fill `view` with [start, stop), and request the bytes after it at the same time.

        Returns how many of its bytes were not cached.
        """
        awaited: list[tuple[Span, memoryview]] = []
        position = 0
        for span in spans(start, stop):
            piece = view[position : position + span.stop - span.start]
            position += len(piece)
            if not self._from_cache(ref, span, piece):
                awaited.append((span, piece))
        ahead = None
        if window:
            skipped = window.skipped(start)
            shared = bool(skipped) and self._has_all(ref, skipped)
            ahead = window.advance(start, stop, missed=bool(awaited), shared=shared)
        begun: Mapping[str, Flight] = {}
        if awaited:
            joins = window is not None and window.granularity == PART_SIZE
            if joins and ahead is not None and not self.downloads.is_memory_scarce:
                # No read waits for the memory of more than this.
                stop = max(stop, min(ahead.stop, start + SEQUENTIAL_AFTER))
                ahead = range(stop, ahead.stop) if stop < ahead.stop else None
            begun = self._fetch(ref, range(awaited[0][0].place.start, stop), window)
        if window and ahead is not None:
            stream_before = stop + STREAM_AHEAD
            end = self.downloads.fetch_ahead(
                ref,
                self.downloads.bound_ahead(ahead, stop),
                window.granularity,
                stream_before,
                request_bytes=window.request_bytes,
            )
            if end < ahead.stop:
                window.rewind_to(end)
        for span, piece in awaited:
            self._metrics.add_miss()
            self._await(ref, span, piece, begun)
        return sum(len(piece) for _, piece in awaited)

    def _fetch(self, ref: ObjectRef, wanted: range, window: Window | None) -> dict[str, Flight]:
        """Request what is missing of `wanted`: in whole blocks, or as `window` says."""
        if window is None:
            return self.downloads.fetch(ref, wanted, BLOCK_SIZE, wanted.stop)
        return self.downloads.fetch(
            ref,
            range(window.first_byte(wanted.start), wanted.stop),
            window.granularity,
            wanted.stop,
            request_bytes=window.request_bytes,
        )

    def _read_arrived(self, ref: ObjectRef, span: Span, view: memoryview) -> bool:
        """Fill `view` from a block or its parts, if all bytes are cached or have arrived."""
        if self._copy_arrived(block_key(ref.object_id, span.index), span.start, view):
            return True
        return all(self._copy_arrived(*one) for one in _part_reads(ref, span, view))

    def _copy_arrived(self, key: str, start: int, view: memoryview) -> bool:
        flight = self.downloads.flight(key)
        if flight is None:
            return self._cache.read_into(key, start, view)
        has_arrived = flight.has_arrived(start + len(view))
        if has_arrived:
            flight.read_into(start, view)
        return has_arrived

    def _from_cache(self, ref: ObjectRef, span: Span, view: memoryview) -> bool:
        key = block_key(ref.object_id, span.index)
        if self.downloads.flight(key) is None and (
            self._cache.read_into(key, span.start, view)
            or self._from_parts(ref, span, view, {}, None)
        ):
            self._metrics.add_hit()
            return True
        return False

    def _from_parts(
        self,
        ref: ObjectRef,
        span: Span,
        view: memoryview,
        begun: Mapping[str, Flight],
        deadline: Deadline | None,
    ) -> bool:
        """Fill `view` from parts of a block, cached or in flight; False when one is missing.

        Without a deadline, parts that are in flight count as missing.
        """
        for key, start, piece in _part_reads(ref, span, view):
            flight = self._flight(key, begun)
            if flight is None:
                if not self._cache.read_into(key, start, piece):
                    return False
            elif deadline is None:
                return False
            else:
                flight.read_into(start, piece, deadline)
        return True

    def _await(
        self, ref: ObjectRef, span: Span, view: memoryview, begun: Mapping[str, Flight]
    ) -> None:
        """Fill `view` from flights; one that has ended meanwhile is on disk.

        `begun` are the flights that this read began. One that failed is not found by its key any
        more, and its error is raised without another request. What this read has fetched is read
        from its flight, whatever the disk does: so each part is fetched once, unless its request is
        given up. The read waits, for ANSWER_S at most, if there are too few descriptors or too
        little memory to open a block.
        """
        deadline = read_deadline(len(view))
        unreadable: Deadline | None = None
        was_given_up = False
        while True:
            try:
                if self._from_flights(ref, span, view, begun, deadline):
                    return
            except GivenUpError:  # by another reader; this one has time left
                was_given_up = True
            place = span.place
            again = was_given_up or any(flight.is_given_up for flight in begun.values())
            more = self.downloads.fetch(ref, place, PART_SIZE, place.stop, again=again)
            begun = {**begun, **more}
            if more:
                continue
            if unreadable is None:  # another thread may have begun or stored it meanwhile
                unreadable = Deadline.after(ANSWER_S)
                continue
            if unreadable.has_passed:
                text = f"{ref.url}: its cached blocks cannot be opened"
                raise StoreUnavailable(text, url=ref.url)
            time.sleep(_POLL_S)

    def _from_flights(
        self,
        ref: ObjectRef,
        span: Span,
        view: memoryview,
        begun: Mapping[str, Flight],
        deadline: Deadline,
    ) -> bool:
        """Fill `view` from the flight, the file or the parts of a block; False if one is missing.

        Raises StoreUnavailable at the deadline, GivenUpError, and the errors of flights.
        """
        key = block_key(ref.object_id, span.index)
        flight = self._flight(key, begun)
        if flight is not None:
            flight.read_into(span.start, view, deadline)
            return True
        return self._cache.read_into(key, span.start, view) or self._from_parts(
            ref, span, view, begun, deadline
        )

    def _flight(self, key: str, begun: Mapping[str, Flight]) -> Flight | None:
        flight = begun.get(key)
        return self.downloads.flight(key) if flight is None or flight.is_given_up else flight

    def _has_all(self, ref: ObjectRef, wanted: range) -> bool:
        missing = missing_extents(ref, wanted.start, wanted.stop, PART_SIZE, self.downloads.has)
        return not any(missing)

    def _has_first_part(self, ref: ObjectRef) -> bool:
        return not any(missing_extents(ref, 0, 1, PART_SIZE, self._cache.contains))


def _part_reads(
    ref: ObjectRef, span: Span, view: memoryview
) -> Iterator[tuple[str, int, memoryview]]:
    """Yield the key of each part of a span, where to read in it, and the bytes to fill."""
    place = span.place
    for part in part_extents(ref, place.start, place.stop):
        first, last = max(part.start, place.start), min(part.stop, place.stop)
        yield part.key, first - part.start, view[first - place.start : last - place.start]
