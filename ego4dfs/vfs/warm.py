"""Warming: whole objects into the block cache before they are read, and pinned if so wished."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ego4dfs.blocks import BLOCK_SIZE, ObjectRef, block_key, runs
from ego4dfs.cache import PIN_SHARE, BlockCache
from ego4dfs.cache.blockfile import allocated_bytes
from ego4dfs.errors import CacheError, StoreError, StoreUnavailable
from ego4dfs.facts import FactsIndex
from ego4dfs.store import ObjectStore

_THREADS = 16
_RUN_BLOCKS = 4  # of each thread: what waits for the disk stays below 64 MiB


@dataclass(slots=True)
class WarmReport:
    """What came of it: objects that are whole in the cache, bytes fetched, and why not others."""

    objects: int = 0
    bytes: int = 0
    fetched_bytes: int = 0
    failed: dict[str, StoreError] = field(default_factory=dict)


class Warmer:
    """Brings objects into the cache; what is there already is not fetched again.

    One for each run.
    """

    def __init__(self, store: ObjectStore, facts: FactsIndex, cache: BlockCache) -> None:
        """Fetch from `store` into `cache`."""
        self._store = store
        self._facts = facts
        self._cache = cache
        self._report = WarmReport()
        self._lock = threading.Lock()  # guards the report

    def warm(self, urls: Sequence[str], *, pin: bool = False) -> WarmReport:
        """Bring these objects in, and with `pin` keep them from eviction.

        One object that cannot be had does not stop the others. Raises CacheError, before a byte
        is fetched, when the cache is too small for all of them.
        """
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="warm") as pool:
            refs = [ref for ref in pool.map(self._ref, dict.fromkeys(urls)) if ref is not None]
            self._check_room(refs, pin=pin)
            for ref in refs if pin else ():
                self._cache.pin(ref.object_id, self._keys(ref))
            work = [(ref, run) for ref in refs for run in self._missing(ref)]
            list(pool.map(self._bring, *zip(*work, strict=True))) if work else None
        for ref in refs:
            if ref.url not in self._report.failed:
                self._report.objects += 1
                self._report.bytes += ref.size
        return self._report

    def _ref(self, url: str) -> ObjectRef | None:
        try:
            facts = self._facts.get(url)
        except StoreError as error:
            self._fail(url, error)
            return None
        return ObjectRef.of(self._store.source, url, facts.size, facts.etag)

    def _check_room(self, refs: Iterable[ObjectRef], *, pin: bool) -> None:
        needed = sum(self._bytes_of(ref) for ref in refs)
        limit = int(self._cache.max_bytes * PIN_SHARE)
        if pin:
            pinned = {found.url for found in self._cache.pins()}
            needed = sum(self._bytes_of(ref) for ref in refs if ref.url not in pinned)
            limit = self._cache.room_to_pin
        if needed > limit:
            what = "can still be pinned" if pin else "fit beside what else is read"
            raise CacheError(
                f"{needed / 2**30:.2f} GiB are selected, and {limit / 2**30:.2f} GiB {what}",
                hint="choose less, or give a larger --cache-size",
            )

    def _bytes_of(self, ref: ObjectRef) -> int:
        return sum(allocated_bytes(ref.block_length(index)) for index in range(ref.block_count))

    def _keys(self, ref: ObjectRef) -> list[str]:
        return [block_key(ref.object_id, index) for index in range(ref.block_count)]

    def _missing(self, ref: ObjectRef) -> list[range]:
        keys = enumerate(self._keys(ref))
        return list(runs((i for i, key in keys if not self._cache.contains(key)), _RUN_BLOCKS))

    def _bring(self, ref: ObjectRef, run: range) -> None:
        if ref.url in self._report.failed:
            return
        start, stop = run.start * BLOCK_SIZE, min(run.stop * BLOCK_SIZE, ref.size)
        try:
            fetched = self._store.read_range(ref.url, start, stop, etag=ref.etag)
            if len(fetched.data) != stop - start or fetched.start != start:
                raise StoreUnavailable(f"{ref.url}: the store sent another range", url=ref.url)
            self._put(ref, run, fetched.data)
        except StoreError as error:
            self._fail(ref.url, error)
            return
        with self._lock:
            self._report.fetched_bytes += stop - start

    def _put(self, ref: ObjectRef, run: range, data: memoryview) -> None:
        """Hand the blocks to the cache and wait until it has them, so that memory is bounded."""
        stored: list[bool] = []
        arrived = threading.Semaphore(0)

        def done(is_stored: bool) -> None:  # noqa: FBT001 - its only argument
            stored.append(is_stored)
            arrived.release()

        for index in run:
            start = (index - run.start) * BLOCK_SIZE
            block = data[start : start + ref.block_length(index)]
            self._cache.put(block_key(ref.object_id, index), ref.url, block, done)
        for _ in run:
            arrived.acquire()
        if not all(stored):
            reason = "the cache could not keep it: the disk is full, or the rest is pinned"
            raise StoreError(f"{ref.url}: {reason}", url=ref.url)

    def _fail(self, url: str, error: StoreError) -> None:
        with self._lock:
            self._report.failed.setdefault(url, error)
