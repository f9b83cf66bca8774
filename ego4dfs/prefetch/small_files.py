"""Small files: each by one request at most, held in memory."""

from __future__ import annotations

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts import FactsIndex
from ego4dfs.prefetch.plan import Item
from ego4dfs.prefetch.ranged_download import RangeFetcher, Stopped
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.worker_pool import WorkerPool
from ego4dfs.store import Fetched, ObjectFacts, ObjectStore

SMALL_BYTES = 1 << 20
"""The maximum size of a small file."""


class SmallFileReader:
    """Reads whole files from the cache, else from the store. Safe from several threads."""

    def __init__(
        self,
        store: ObjectStore,
        facts: FactsIndex,
        ranges: RangeFetcher,
        report: Report,
        pool: WorkerPool,
    ) -> None:
        """Read the cache through `ranges`, count into `report`, and end with the pool."""
        self._store = store
        self._facts = facts
        self._ranges = ranges
        self._report = report
        self._pool = pool

    def read(self, item: Item, *, past_cache: bool) -> tuple[memoryview, ObjectFacts]:
        """Return a small file's bytes, or the first ones of a file that turns out to be large."""
        facts = item.facts
        if facts is not None and not facts.size:
            return memoryview(b""), facts
        if facts is not None and not past_cache:
            ref = ObjectRef.of(self._store.source, item.url, facts.size, facts.etag)
            cached = self._ranges.read_cached(ref)
            if cached is not None:
                self._report.moved(item.path, cached=len(cached))
                return cached, facts
        try:
            fetched = self._read_with_retries(item.url, facts)
        except (AccessDenied, ObjectChanged, ObjectMissing, StoreUnavailable):
            raise
        except StoreError:
            # An empty object has no first byte to request.
            empty = self._report.outage.attempt(lambda: self._facts.get(item.url))
            if empty.size:
                raise
            return memoryview(b""), empty
        self._report.moved(item.path, fetched=len(fetched.data))
        if facts is None:
            self._facts.record(item.url, fetched.facts)
            return fetched.data, fetched.facts
        return fetched.data, facts.confirmed()  # those of the answer may have no time

    def _read_with_retries(self, url: str, facts: ObjectFacts | None) -> Fetched:
        stop, etag = (facts.size, facts.etag) if facts else (SMALL_BYTES, "")
        size = facts.size if facts else None
        try:
            return self._report.outage.attempt(
                lambda: self._store.read_range(url, 0, stop, etag=etag, size=size)
            )
        except StoreUnavailable as error:
            if self._pool.stopping.is_set():
                raise Stopped from error
            raise
