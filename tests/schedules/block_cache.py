"""Scenarios of BlockCache: puts, reads, evictions, removals, two processes, and the close.

The files are real, and the index is a fake: rows in memory that two processes may share.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schedules.fakes import content, run_threads
from schedules.instrument import Product
from schedules.scheduler import paused, point
from schedules.simulated import RLock, now_s

LENGTH = 60
_ON_DISK = 4096  # of such a block, in clusters
_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - faster than a disk


def key_of(number: int) -> str:
    return f"{number:02x}{'0' * 30}-0"


class Rows:
    """What the database holds: a length by key, in the order of use. Shared by processes."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self.limit = limit
        self.lengths: dict[str, int] = {}
        self.pinned: set[str] = set()

    @property
    def used(self) -> int:
        return _ON_DISK * len(self.lengths)

    def file(self, key: str) -> Path:
        return self.directory / key[:2] / key[2:]


class Index:
    """The BlockIndex of one process: each transaction is one step; files are removed after it."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.generation = 0
        self.is_new = False
        self._fork_lock = RLock()  # held by the real one around each use

    def reserve(self, blocks: list[tuple[str, int, str, bool]]) -> int:
        evicted = 0
        with self._fork_lock:
            for key, length, _, is_pinned in blocks:
                self.rows.lengths.setdefault(key, length)
                if is_pinned:
                    self.rows.pinned.add(key)
            point("commits new rows")
            while self.rows.used > self.rows.limit:
                unpinned = [key for key in self.rows.lengths if key not in self.rows.pinned]
                if not unpinned:
                    break
                self._delete(unpinned[0])
                evicted += 1
        return evicted

    def reserved(self, keys: set[str]) -> set[str]:
        with self._fork_lock:
            point("queries rows")
            return set(keys) & self.rows.lengths.keys()

    def remove(self, key: str) -> None:
        with self._fork_lock:
            point("deletes a row")
            if key in self.rows.lengths:
                self._delete(key)

    def touch(self, keys: list[str]) -> None:
        with self._fork_lock:
            point("touches rows")
            for key in keys:
                if key in self.rows.lengths:
                    self.rows.lengths[key] = self.rows.lengths.pop(key)

    def keys_of(self, object_id: str, *, limit: int) -> list[str]:
        with self._fork_lock:
            point("queries rows")
            return [key for key in self.rows.lengths if key.startswith(object_id)][:limit]

    def recount(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def _delete(self, key: str) -> None:
        self.rows.lengths.pop(key)
        self.rows.pinned.discard(key)
        point("commits a deletion")
        self.rows.file(key).unlink(missing_ok=True)


class World:
    """Caches over one directory, as many as there are processes."""

    def __init__(self, product: Product, directory: Path, limit: int) -> None:
        self.product = product
        self.rows = Rows(directory / "blocks", limit)
        self.directory = directory
        self.results: dict[int, list[bool]] = {}
        self.caches: list[Any] = []
        self.open()

    def open(self) -> Any:
        """Open the directory as another process does."""
        self.product.cache_blockcache.BlockIndex = lambda *_: Index(self.rows)
        with paused():
            cache = self.product.cache_blockcache.BlockCache(
                self.directory, self.product.metrics.Metrics(), max_bytes=self.rows.limit
            )
        self.caches.append(cache)
        return cache

    def put(self, number: int, cache: Any = None, *, is_kept: bool = False) -> None:
        """Put a block; if it must be kept, it can be read as soon as `done` is called."""
        cache = cache or self.caches[0]
        results = self.results.setdefault(number, [])
        results.append(False)
        place = len(results) - 1
        called: list[bool] = []

        def done(is_stored: bool) -> None:  # noqa: FBT001 - as put calls it
            assert not called, "done was called twice"
            called.append(is_stored)
            results[place] = True
            if is_kept:
                assert is_stored, "a block that has room was not kept"
                assert self.read(number, cache), "a block on disk cannot be read"

        cache.put(key_of(number), "url", memoryview(content(LENGTH, number)), done)

    def read(self, number: int, cache: Any = None) -> bool:
        """Read a part of a block: False, or its bytes."""
        view = memoryview(bytearray(40))
        if not (cache or self.caches[0]).read_into(key_of(number), 10, view):
            return False
        assert view == content(LENGTH, number)[10:50], f"wrong bytes of block {number}"
        return True

    def settle(self) -> None:
        """Close; each put was answered once, and each file has a row below the limit."""
        for cache in self.caches:
            cache.close()
        for number, results in self.results.items():
            assert all(results), f"done was not called for block {number}"
        files = {path.parent.name + path.name for path in self.rows.directory.glob("??/*")}
        stray = files - self.rows.lengths.keys()
        assert not stray, f"files that no row counts: {stray}"
        assert self.rows.used <= self.rows.limit, f"{self.rows.used} bytes"
        assert not list(self.rows.directory.glob("incoming/*")), "a temporary file is left"

    def took(self, at_most_s: float) -> None:
        assert now_s() <= at_most_s, f"took {now_s()} s: a wake-up was lost"


_made: list[Path] = []


@contextmanager
def _world(product: Product, blocks: int) -> Iterator[World]:
    """Yield a world in an empty directory; its limit is so many blocks."""
    if not _made:
        _made.append(Path(tempfile.mkdtemp(prefix="schedules-", dir=_FOLDER)))
    directory = _made[0]
    for path in directory.glob("blocks/*/*"):
        path.unlink()
    yield World(product, directory, blocks * _ON_DISK)


def remove_directory() -> None:
    """Remove the files of all schedules."""
    for directory in _made:
        shutil.rmtree(directory)
    _made.clear()


def put_and_read(product: Product, dice: random.Random) -> None:
    """Blocks that have room are on disk when `done` is called, and are read right."""
    with _world(product, 4) as world:

        def puts(*numbers: int) -> Callable[[], None]:
            return lambda: [world.put(number, is_kept=True) for number in numbers] and None

        run_threads(puts(1, 2), puts(2, 3), lambda: world.read(1) or world.read(2))
        world.caches[0].close()
        world.took(0)
        assert all(world.read(number) for number in (1, 2, 3)), "a block was lost"
        world.settle()


def evictions(product: Product, dice: random.Random) -> None:
    """With room for two blocks, the limit holds, and reads give right bytes or nothing."""
    with _world(product, 2) as world:
        run_threads(
            lambda: [world.put(number) for number in (1, 2, 3)],
            lambda: [world.put(number) for number in (4, 1)],
            lambda: [world.read(number) for number in (1, 2, 4, 3)],
        )
        world.settle()


def two_processes(product: Product, dice: random.Random) -> None:
    """Two processes that evict each other's blocks leave no file that no row counts."""
    with _world(product, 2) as world:
        other = world.open()
        run_threads(
            lambda: [world.put(number) for number in (1, 2)],
            lambda: [world.put(number, other) for number in (3, 1)],
            lambda: [world.read(1), world.read(1, other)],
        )
        world.settle()


def damaged(product: Product, dice: random.Random) -> None:
    """A damaged block is never read, whoever removes, replaces or reads it meanwhile."""
    with _world(product, 4) as world:
        with paused():
            world.rows.lengths[key_of(1)] = LENGTH
            file = world.rows.file(key_of(1))
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(bytes(LENGTH + 16))
        run_threads(lambda: world.read(1), lambda: world.read(1), lambda: world.put(1))
        world.settle()


def removals(product: Product, dice: random.Random) -> None:
    """A block that was removed is not read again until it is put again."""
    with _world(product, 4) as world:
        cache = world.caches[0]
        stored: list[bool] = []
        cache.put(key_of(1), "url", memoryview(content(LENGTH, 1)), stored.append)
        world.put(2)

        def remove_stored() -> None:
            was_stored = bool(stored)
            cache.remove([key_of(1), key_of(2)])
            assert not (was_stored and world.read(1)), "a block that was dropped was read"

        run_threads(remove_stored, lambda: world.read(1), lambda: world.put(3))
        world.settle()


def pins(product: Product, dice: random.Random) -> None:
    """Pinned blocks stay, also if they were put before they were pinned."""
    with _world(product, 3) as world:
        cache = world.caches[0]
        cache._writer.pinned_objects.add(key_of(1).partition("-")[0])
        run_threads(
            lambda: [world.put(number) for number in (1, 2, 3)],
            lambda: [world.put(number) for number in (4, 5)],
            lambda: world.read(2),
        )
        cache.close()
        assert world.read(1), "a pinned block was evicted"
        world.settle()


def close_meanwhile(product: Product, dice: random.Random) -> None:
    """Each put before, during or after a close is answered once, and the close ends at once."""
    with _world(product, 4) as world:
        cache = world.caches[0]
        run_threads(
            lambda: [world.put(number) for number in (1, 2)],
            lambda: world.read(1) or world.put(3),
            cache.close,
        )
        if dice.random() < 0.5:
            world.put(4)
        world.took(0)
        world.settle()


SCENARIOS = (put_and_read, evictions, two_processes, damaged, removals, pins, close_meanwhile)
