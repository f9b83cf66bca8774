"""Byte ranges of objects as blocks: pure arithmetic and names, no bytes and no disk.

An object version is cut into blocks of `BLOCK_SIZE` bytes; the last one may be shorter. A block is
named by the object version's identity and its index, so the same name always means the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BLOCK_SIZE = 1 << 20  # a change of this number is a new cache format: see cache.FORMAT


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One version of one object: what the reader needs to fetch, pin and cache its bytes."""

    url: str
    size: int
    etag: str
    object_id: str

    @classmethod
    def of(cls, source: str, url: str, size: int, etag: str) -> ObjectRef:
        """Name the version: 32 hex digits that differ with the source, the URL or the ETag."""
        identity = f"{source}\0{url}\0{etag}".encode()
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


def spans(start: int, stop: int) -> Iterator[Span]:
    """Cut the range [start, stop) of an object at block borders, in order."""
    while start < stop:
        index, first = divmod(start, BLOCK_SIZE)
        last = min(BLOCK_SIZE, first + stop - start)
        yield Span(index, first, last)
        start += last - first


def runs(indexes: Iterable[int], longest: int) -> Iterator[range]:
    """Join ascending block indexes that are adjacent into runs of at most `longest` blocks."""
    run: range | None = None
    for index in indexes:
        if run is not None and index == run.stop and len(run) < longest:
            run = range(run.start, index + 1)
            continue
        if run is not None:
            yield run
        run = range(index, index + 1)
    if run is not None:
        yield run


def block_key(object_id: str, index: int) -> str:
    """Return the name of a block, unique over all sources, objects and versions."""
    return f"{object_id}-{index:x}"
