"""Transfer: one range of an object, from the near tier where it has it, else from the far store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreError
from ego4dfs.near.chunks import CHUNK_BYTES, Chunk, chunk_of
from ego4dfs.near.in_flight import InFlight
from ego4dfs.near.lease import Lease, Leases
from ego4dfs.near.tier import NearFailed, NearTier
from ego4dfs.near.writes import Writes
from ego4dfs.runtime.deadline import QUIET_S
from ego4dfs.runtime.recent import Recent
from ego4dfs.store import Sink

RUN_CHUNKS = 8
"""At most so many missing chunks are fetched by one request."""

Far = Callable[[range, Sink], None]
"""Fetches a range of the object from the far store into a sink."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What all transfers of a process share."""

    tier: NearTier
    writes: Writes
    leases: Leases
    memory: Recent[memoryview]
    """Chunks by name; sizes are bytes."""
    in_flight: InFlight = field(default_factory=InFlight)


class Transfer:
    """Passes [start, stop) of one object version to a sink, in order. Used from one thread.

    With `fills`, what the near tier lacks is fetched in whole chunks, by one node at a time, and
    written there. Once the near tier has failed, the rest comes from the far store.
    """

    def __init__(
        self, parts: Parts, ref: ObjectRef, wanted: range, sink: Sink, *, fills: bool
    ) -> None:
        """Begin at the start of `wanted`, which is within the object."""
        self._parts = parts
        self._ref = ref
        self._position = wanted.start
        self._stop = wanted.stop
        self._sink = sink
        self._fills = fills
        self._has_failed = False

    def run(self, far: Far) -> None:
        """Pass on all bytes. Raises what `far` and the sink raise."""
        while self._position < self._stop:
            chunk = chunk_of(self._ref, self._position // CHUNK_BYTES)
            data = self._look(chunk)
            if data is not None:
                self._deliver(chunk.start, data)
            elif self._has_failed:
                far(range(self._position, self._stop), self._deliver)
            else:
                missing = self._missing(chunk)  # after this the near tier may have failed
                if self._fills and self._parts.tier.is_fillable():
                    self._fill(far, missing)
                else:
                    self._fetch(far, missing)

    def _look(self, chunk: Chunk) -> memoryview | None:
        """Return a chunk from memory or the near tier, or None."""
        kept = self._parts.memory.get(chunk.name)
        if kept is None:
            kept = self._parts.writes.queued(chunk.name)
        if kept is not None or self._has_failed:
            return kept
        try:
            data = self._parts.tier.get(chunk.name)
        except NearFailed:
            self._has_failed = True
            return None
        if data is None or len(data) != chunk.stop - chunk.start:
            return None
        if self._position > chunk.start or self._stop < chunk.stop:
            self._parts.memory.put(chunk.name, data, len(data))  # the next read needs the rest
        return data

    def _look_ahead(self, chunk: Chunk) -> memoryview | None:
        """Return a chunk as `_look` does, and keep it until it is its turn."""
        data = self._look(chunk)
        if data is not None:
            self._parts.memory.put(chunk.name, data, len(data))
        return data

    def _missing(self, first: Chunk) -> list[Chunk]:
        """Return the missing chunks from `first` on, up to one that is there."""
        missing = [first]
        while len(missing) < RUN_CHUNKS and missing[-1].stop < self._stop:
            chunk = chunk_of(self._ref, missing[-1].index + 1)
            if self._look_ahead(chunk) is not None:
                break
            missing.append(chunk)
        return missing

    def _fill(self, far: Far, missing: Sequence[Chunk]) -> None:
        """Fetch missing chunks and write them, or wait for a thread or a node that does."""
        in_flight, first = self._parts.in_flight, missing[0]
        claimed = in_flight.claim(missing)
        if not claimed:
            if not in_flight.wait(first.name, QUIET_S):
                self._fetch(far, [first])
            return
        try:
            look = self._look_ahead
            lease, found = self._parts.leases.acquire(first.name, lambda: look(first))
            if found is not None:
                return
            if lease is None and not self._parts.tier.is_fillable():
                self._fetch(far, claimed)
                return
            try:
                self._fetch_whole(far, claimed, lease)
            finally:
                self._parts.writes.release(lease)
        finally:
            in_flight.end(claimed)

    def _fetch(self, far: Far, chunks: Sequence[Chunk]) -> None:
        """Fetch what is wanted of adjacent chunks, for this node only."""
        far(range(self._position, min(chunks[-1].stop, self._stop)), self._deliver)

    def _fetch_whole(self, far: Far, chunks: Sequence[Chunk], lease: Lease | None) -> None:
        collector = _Collector(self._parts, chunks, lease)

        def take(offset: int, data: memoryview) -> None:
            self._deliver(offset, data)
            collector.add(offset, data)

        try:
            far(range(chunks[0].start, chunks[-1].stop), take)
        except StoreError:
            if self._position < self._stop:
                raise  # else only bytes are missing that nobody has asked for

    def _deliver(self, offset: int, data: memoryview) -> None:
        """Pass on what of these bytes is wanted and was not passed on yet."""
        first, last = max(self._position, offset), min(self._stop, offset + len(data))
        if first < last:
            self._sink(first, data[first - offset : last - offset])
            self._position = last


class _Collector:
    """Cuts the bytes of one answer into chunks, which are kept in memory and written."""

    def __init__(self, parts: Parts, chunks: Sequence[Chunk], lease: Lease | None) -> None:
        self._parts = parts
        self._left = list(reversed(chunks))
        self._lease = lease
        self._buffer = memoryview(b"")
        self._count = 0

    def add(self, offset: int, data: memoryview) -> None:
        """Add the next bytes."""
        del offset  # they are in order
        while data and self._left:
            chunk = self._left[-1]
            size = chunk.stop - chunk.start
            if not self._count:
                self._buffer = memoryview(bytearray(size))
            count = min(len(data), size - self._count)
            self._buffer[self._count : self._count + count] = data[:count]
            self._count += count
            data = data[count:]
            if self._count == size:
                self._left.pop()
                self._count = 0
                self._parts.memory.put(chunk.name, self._buffer, size)
                self._parts.writes.put(chunk.name, self._buffer, self._lease)
