"""Arithmetic of blocks and parts of objects, and their cache keys: no bytes and no disk.

An object version is cut into blocks of `BLOCK_SIZE` bytes; the last one may be shorter. If
little of a block is read, it is cached in parts of `PART_SIZE`. The key of a block or part contains
the identity of the object version and its position, so one key always means the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

BLOCK_SIZE = 1 << 20  # a change of this number is a new cache format: see cache.FORMAT
PART_SIZE = 256 << 10  # so is a change of this one


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One version of one object: what the reader needs to fetch, pin and cache its bytes."""

    url: str
    size: int
    etag: str
    object_id: str

    @classmethod
    def of(cls, source: str, url: str, size: int, etag: str) -> ObjectRef:
        """Return the reference, with an `object_id` of 32 hex digits derived from all of these.

        The size is one of them because facts can be wrong: blocks of an object with a wrong
        size must not be used for one with the true size.
        """
        identity = f"{source}\0{url}\0{etag}\0{size}".encode()
        return cls(url, size, etag, hashlib.blake2b(identity, digest_size=16).hexdigest())

    @property
    def block_count(self) -> int:
        """How many blocks the object has; 0 for an empty one."""
        return -(-self.size // BLOCK_SIZE)

    def block_length(self, index: int) -> int:
        """Return the length of block `index` in bytes: `BLOCK_SIZE`, except for the last block."""
        return min(BLOCK_SIZE, self.size - index * BLOCK_SIZE)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, stop) of block `index`."""

    index: int
    start: int
    stop: int

    @property
    def place(self) -> range:
        """Where these bytes are in their object."""
        first = self.index * BLOCK_SIZE
        return range(first + self.start, first + self.stop)


def spans(start: int, stop: int) -> Iterator[Span]:
    """Yield the range [start, stop) of an object, cut at block boundaries, in order."""
    while start < stop:
        index, first = divmod(start, BLOCK_SIZE)
        last = min(BLOCK_SIZE, first + stop - start)
        yield Span(index, first, last)
        start += last - first


def block_key(object_id: str, index: int) -> str:
    """Return the cache key of a block, unique over all sources, objects and versions."""
    return f"{object_id}-{index:x}"


class Extent(NamedTuple):
    """A block or a part: the bytes [start, stop) of an object, which have one key in the cache."""

    key: str
    start: int
    stop: int


def block_extent(ref: ObjectRef, index: int) -> Extent:
    """Return block `index` as a whole."""
    start = index * BLOCK_SIZE
    return Extent(block_key(ref.object_id, index), start, start + ref.block_length(index))


def block_extents(ref: ObjectRef) -> list[Extent]:
    """Return all blocks of an object, in order; none of an empty one."""
    return [block_extent(ref, index) for index in range(ref.block_count)]


def part_extents(ref: ObjectRef, start: int, stop: int) -> Iterator[Extent]:
    """Yield the parts that hold [start, stop), in order."""
    stop = min(stop, ref.size)
    for first in range(start // PART_SIZE * PART_SIZE, stop, PART_SIZE):
        yield Extent(_part_key(ref, first), first, min(first + PART_SIZE, ref.size))


def missing_extents(
    ref: ObjectRef, start: int, stop: int, granularity: int, has: Callable[[str], bool]
) -> Iterator[Extent]:
    """Yield what must be fetched to have [start, stop), widened to units of `granularity`.

    `has` returns whether a key exists. A block is fetched as a whole if all of it is wanted
    and none of its parts exists; existing parts are not fetched again. A block that is not longer
    than a part is never fetched as a part.
    """
    start = start // granularity * granularity
    stop = min(ref.size, -(-stop // granularity) * granularity)
    for index in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
        block = block_extent(ref, index)
        if has(block.key):
            continue
        if not _has_parts(block):
            yield block
            continue
        first, last = max(start, block.start), min(stop, block.stop)
        parts = list(part_extents(ref, block.start, block.stop))
        missing = [part for part in parts if not has(part.key)]
        if (first, last) == (block.start, block.stop) and missing == parts:
            yield block
        else:
            yield from (part for part in missing if part.start < last and first < part.stop)


def present_extents(
    ref: ObjectRef, start: int, stop: int, has: Callable[[str], bool]
) -> Iterator[Extent]:
    """Yield the blocks, and the parts of other blocks, that exist for [start, stop), in order.

    `has` returns whether a key exists; it is called as the extents are yielded.
    """
    stop = min(stop, ref.size)
    for index in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
        block = block_extent(ref, index)
        if has(block.key):
            yield block
            continue
        parts = part_extents(ref, max(start, block.start), min(stop, block.stop))
        yield from (part for part in parts if has(part.key))


def overlapping_keys(ref: ObjectRef, extent: Extent) -> tuple[str, ...]:
    """Return the other keys under which bytes of an extent may be in flight."""
    index = extent.start // BLOCK_SIZE
    block = block_extent(ref, index)
    if extent.key != block.key:
        return (block.key,)
    if not _has_parts(block):
        return ()
    return tuple(part.key for part in part_extents(ref, block.start, block.stop))


def total_bytes(extents: list[Extent]) -> int:
    """Count the bytes of adjacent extents."""
    return extents[-1].stop - extents[0].start


def join_adjacent(extents: Iterable[Extent], max_bytes: int) -> Iterator[list[Extent]]:
    """Join adjacent extents into requests of at most `max_bytes`, or of one extent."""
    request: list[Extent] = []
    for extent in extents:
        is_adjacent = bool(request) and request[-1].stop == extent.start
        if request and not (is_adjacent and extent.stop - request[0].start <= max_bytes):
            yield request
            request = []
        request.append(extent)
    if request:
        yield request


def join_ranges(ranges: Iterable[range]) -> list[range]:
    """Return the union of ranges, in order; adjacent ones are joined."""
    found: list[range] = []
    for part in sorted(ranges, key=lambda part: part.start):
        if found and part.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(part.stop, found[-1].stop))
        else:
            found.append(part)
    return found


def whole_parts(ranges: Iterable[range], size: int) -> tuple[range, ...]:
    """Return the union of ranges of an object of `size` bytes, each widened to whole parts."""
    widened = (
        range(r.start // PART_SIZE * PART_SIZE, min(size, -(-r.stop // PART_SIZE) * PART_SIZE))
        for r in ranges
    )
    return tuple(join_ranges(widened))


def _has_parts(block: Extent) -> bool:
    """Return whether a block may be fetched in parts: not if it is no longer than one."""
    return block.stop - block.start > PART_SIZE


def _part_key(ref: ObjectRef, start: int) -> str:
    index, first = divmod(start, BLOCK_SIZE)
    return f"{block_key(ref.object_id, index)}.{first // PART_SIZE}"
