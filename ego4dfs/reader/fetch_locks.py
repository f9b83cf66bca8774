"""Single flight between processes: the ranges of objects that this process fetches are locked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ego4dfs.blocks import PART_SIZE, Extent, ObjectRef, present_extents
from ego4dfs.cache import BlockCache
from ego4dfs.runtime.range_locks import LockWait

Piece = tuple[range, memoryview | None]

_PARTS_BITS = 26  # an object of 5 TiB has fewer parts
_ID_DIGITS = 9  # of its id; 36 bits


class FetchLocks:
    """Locks on ranges of objects, and what other processes have cached of them meanwhile.

    A range is locked from before its request until its blocks are on disk, or have failed. No
    request waits while it has locked something, so no two processes wait for each other. A process
    whose last block was not kept by the cache locks nothing: others would wait for nothing.
    Safe from several threads.
    """

    def __init__(self, cache: BlockCache) -> None:
        """Agree with the other processes that use `cache`."""
        self._cache = cache
        self._locks = cache.fetching
        self._is_kept = True
        self._is_closed = False

    def acquire(self, ref: ObjectRef, start: int, stop: int) -> bool:
        """Lock a range now; return False while another process fetches some of it."""
        return not self._is_kept or self._locks.acquire(*_place(ref.object_id, start, stop))

    def release(self, extent: Extent) -> None:
        """Unlock a block or a part, of which the request has failed."""
        self._locks.release(*_place(extent.key, extent.start, extent.stop))

    def stored(self, extent: Extent, *, is_stored: bool) -> None:
        """Unlock a block or a part that the cache has stored, or could not store."""
        self._is_kept = is_stored
        self.release(extent)

    def wait(
        self, ref: ObjectRef, start: int, stop: int, take: Callable[[memoryview], None]
    ) -> int:
        """Lock [start, stop) once other processes have fetched it; return the first missing byte.

        Calls `take` with the bytes that they store meanwhile, in order. If they make no progress,
        returns without a lock.
        """
        wait: LockWait | None = None
        while start < stop and not self.acquire(ref, start, stop):
            wait = wait or LockWait(self._locks)
            data = self._read_first(ref, start, stop)
            if data is not None:
                take(data)
                start += len(data)
                wait.note_progress()
            elif self._is_closed or not wait.pause():
                break
        return start

    def end_waits(self) -> None:
        """Let all waits end."""
        self._is_closed = True

    def pieces(self, ref: ObjectRef, start: int, stop: int) -> Iterator[Piece]:
        """Yield [start, stop) in pieces: ranges with their cached bytes, or None if not cached.

        What is cached is looked up as the pieces are taken.
        """
        for extent in present_extents(ref, start, stop, self._cache.contains):
            first = max(start, extent.start)
            data = self._read(extent, first, min(stop, extent.stop))
            if data is None:
                continue
            if start < first:
                yield range(start, first), None
            start = first + len(data)
            yield range(first, start), data
        if start < stop:
            yield range(start, stop), None

    def _read_first(self, ref: ObjectRef, start: int, stop: int) -> memoryview | None:
        """Return bytes from `start` on, to the end of a block or part, if they are cached."""
        found = present_extents(ref, start, start + 1, self._cache.contains)
        extent = next(found, None)
        return self._read(extent, start, min(stop, extent.stop)) if extent is not None else None

    def _read(self, extent: Extent, start: int, stop: int) -> memoryview | None:
        data = memoryview(bytearray(stop - start))
        is_read = self._cache.read_into(extent.key, start - extent.start, data)
        return data if is_read else None


def _place(key: str, start: int, stop: int) -> tuple[int, int]:
    """Return first byte and length of the lock on a range of an object, by id or by cache key."""
    first = start // PART_SIZE
    return (int(key[:_ID_DIGITS], 16) << _PARTS_BITS) + first, -(-stop // PART_SIZE) - first
