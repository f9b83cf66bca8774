"""Readers over a store in memory and a cache on disk, and what they requested."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ego4dfs.blocks import BLOCK_SIZE, ObjectRef
from ego4dfs.cache import BlockCache
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader, Window
from kit.cache import open_cache
from kit.data import seeded
from kit.fakes import CountingStore
from kit.processes import wait_until

URL = "s3://b/large"
BLOCKS = 200


@pytest.fixture(scope="module")
def large() -> bytes:
    return seeded("large", BLOCKS * BLOCK_SIZE - 333)


@pytest.fixture
def make_reader(tmp_path):
    """Return a function that makes a reader of a store, with a cache of that many blocks."""
    made: list[tuple[Reader, BlockCache]] = []

    def make_one(store, *, cache_blocks: int = 1024) -> Reader:
        cache = open_cache(tmp_path, cache_blocks * BLOCK_SIZE)
        made.append((Reader(store, cache, Metrics()), cache))
        return made[-1][0]

    yield make_one
    for reader, cache in made:
        reader.close()
        cache.close()


def read(
    reader: Reader, ref: ObjectRef, offset: int, size: int, window: Window | None = None
) -> bytes:
    buffer = bytearray(size)
    count = reader.read_into(ref, offset, memoryview(buffer), window)
    return bytes(buffer[:count])


def settle(reader: Reader) -> None:
    """Wait until no request is running any more."""
    wait_until(lambda: not reader.downloads.in_flight)


def bytes_requested(store: CountingStore) -> int:
    return sum(stop - start for _, start, stop in store.gets)


def requested_once(store: CountingStore) -> bool:
    """Return whether no byte was requested twice."""
    gets = sorted(store.gets)
    return all(
        one[0] != following[0] or one[2] <= following[1] for one, following in pairwise(gets)
    )
