"""Byte ranges of objects as blocks: pure arithmetic and names, no bytes and no disk.

An object version is cut into blocks of `BLOCK_SIZE` bytes; the last one may be shorter. Where
little is read, a block is kept in parts of `PART_SIZE`. Blocks and parts are named by the object
version's identity and their place, so the same name always means the same bytes.
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
        """Name the version: 32 hex digits that differ with source, URL, ETag or size.

        The size is part of it because facts can be wrong: blocks of an object that was taken for
        smaller or larger must not serve it.
        """
        identity = f"{source}\0{url}\0{etag}\0{size}".encode()
        return cls(url, size, etag, hashlib.blake2b(identity, digest_size=16).hexdigest())

    @property
    def block_count(self) -> int:
        """How many blocks hold the object; none for an empty one."""
        return -(-self.size // BLOCK_SIZE)

    def block_length(self, index: int) -> int:
        """Return the bytes in block `index`: all of `BLOCK_SIZE` but for the last block."""
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
    """Cut the range [start, stop) of an object at block borders, in order."""
    while start < stop:
        index, first = divmod(start, BLOCK_SIZE)
        last = min(BLOCK_SIZE, first + stop - start)
        yield Span(index, first, last)
        start += last - first


def block_key(object_id: str, index: int) -> str:
    """Return the name of a block, unique over all sources, objects and versions."""
    return f"{object_id}-{index:x}"


def key_before(ref: ObjectRef, position: int) -> str:
    """Return the name of the block that holds the byte before a position behind the first."""
    return block_key(ref.object_id, (position - 1) // BLOCK_SIZE)


class Entry(NamedTuple):
    """What has one name in the cache: the bytes [start, stop) of an object, a block or a part."""

    key: str
    start: int
    stop: int


def block_entry(ref: ObjectRef, index: int) -> Entry:
    """Return block `index` as a whole."""
    start = index * BLOCK_SIZE
    return Entry(block_key(ref.object_id, index), start, start + ref.block_length(index))


def block_entries(ref: ObjectRef) -> list[Entry]:
    """Return all blocks of an object, in order; none of an empty one."""
    return [block_entry(ref, index) for index in range(ref.block_count)]


def part_entries(ref: ObjectRef, start: int, stop: int) -> Iterator[Entry]:
    """Yield the parts that hold [start, stop), in order."""
    stop = min(stop, ref.size)
    for first in range(start // PART_SIZE * PART_SIZE, stop, PART_SIZE):
        yield Entry(_part_key(ref, first), first, min(first + PART_SIZE, ref.size))


def missing_entries(
    ref: ObjectRef, start: int, stop: int, grain: int, is_there: Callable[[str], bool]
) -> Iterator[Entry]:
    """Yield what is to be fetched so that [start, stop), widened to units of `grain`, is there.

    A block is fetched as a whole if all of it is wanted and no part of it is there; the bytes of
    a part that is there are not fetched again.
    """
    start, stop = start // grain * grain, min(ref.size, -(-stop // grain) * grain)
    for index in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
        block = block_entry(ref, index)
        if is_there(block.key):
            continue
        first, last = max(start, block.start), min(stop, block.stop)
        parts = list(part_entries(ref, block.start, block.stop))
        lacking = [part for part in parts if not is_there(part.key)]
        if (first, last) == (block.start, block.stop) and lacking == parts:
            yield block
        else:
            yield from (part for part in lacking if part.start < last and first < part.stop)


def overlapping_keys(ref: ObjectRef, entry: Entry) -> tuple[str, ...]:
    """Return the keys under which bytes of an entry may be in flight, but for its own."""
    index = entry.start // BLOCK_SIZE
    block = block_entry(ref, index)
    if entry.key != block.key:
        return (block.key,)
    return tuple(part.key for part in part_entries(ref, block.start, block.stop))


def length_of(request: list[Entry]) -> int:
    """Count the bytes of adjacent entries."""
    return request[-1].stop - request[0].start


def requests(entries: Iterable[Entry], longest: int) -> Iterator[list[Entry]]:
    """Join entries that are adjacent into requests of at most `longest` bytes, or one entry."""
    request: list[Entry] = []
    for entry in entries:
        if request and (request[-1].stop != entry.start or entry.stop - request[0].start > longest):
            yield request
            request = []
        request.append(entry)
    if request:
        yield request


def _part_key(ref: ObjectRef, start: int) -> str:
    index, first = divmod(start, BLOCK_SIZE)
    return f"{block_key(ref.object_id, index)}.{first // PART_SIZE}"
