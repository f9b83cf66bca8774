"""Small files: each by one request at most, held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreUnavailable
from ego4dfs.prefetch.expected_sizes import ExpectedSizes
from ego4dfs.prefetch.plan import SMALL_BYTES, Item
from ego4dfs.prefetch.ranged_download import RangeFetcher, Stopped
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.worker_pool import WorkerPool
from ego4dfs.session import Session
from ego4dfs.store import Fetched, ObjectFacts
from ego4dfs.vfs.first_get import FirstGets

Result = TypeVar("Result")


class SmallFileReader:
    """Reads whole files from the cache, else from the store. Safe from several threads."""

    def __init__(
        self,
        session: Session,
        ranges: RangeFetcher,
        report: Report,
        pool: WorkerPool,
        sizes: Mapping[str, ExpectedSizes],
    ) -> None:
        """Read the cache through `ranges`, count into `report`, and end with the pool.

        `sizes` are those of each dataset.
        """
        self._store = session.store
        self._facts = session.facts
        self._first_gets = FirstGets(session)
        self._ranges = ranges
        self._report = report
        self._pool = pool
        self._sizes = sizes

    def read(self, item: Item, *, past_cache: bool) -> tuple[memoryview, ObjectFacts]:
        """Return a small file's bytes, or the first ones of a file that turns out to be large."""
        facts = item.facts
        if facts is None:
            return self._read_unknown(item, past_cache=past_cache)
        if not facts.size:
            return memoryview(b""), facts
        self.note(item, facts)
        if not past_cache:
            ref = ObjectRef.of(self._store.source, item.url, facts.size, facts.etag)
            cached = self._ranges.read_cached(ref)
            if cached is not None:
                self._report.moved(item.path, cached=len(cached))
                return cached, facts
        size, etag = facts.size, facts.etag
        fetched = self._with_retries(
            lambda: self._store.read_range(item.url, 0, size, etag=etag, size=size)
        )
        self._report.moved(item.path, fetched=len(fetched.data))
        return fetched.data, facts.confirmed()  # those of the answer may have no time

    def note(self, item: Item, facts: ObjectFacts) -> None:
        """Remember the ETag of a file, with which later first answers are compared."""
        self._first_gets.note(item.url, facts.etag)

    def _read_unknown(self, item: Item, *, past_cache: bool) -> tuple[memoryview, ObjectFacts]:
        """Fetch the facts of a file together with its first bytes.

        They may come without bytes: of an empty object, by another thread, or by a HEAD request if
        the answer had the ETag of another object.
        """
        fetched: list[Fetched] = []

        def fetch(url: str) -> ObjectFacts:
            return self._first_gets.fetch_uncached(url, range(SMALL_BYTES), fetched.append)

        facts = self._with_retries(lambda: self._facts.get_unread(item.url, fetch))
        self._sizes[item.dataset].learn(facts.size)
        if not fetched:
            if facts.size > SMALL_BYTES:  # fetched by ranges, and not held in memory
                return memoryview(b""), facts
            return self.read(replace(item, facts=facts), past_cache=past_cache)
        self._report.moved(item.path, fetched=len(fetched[0].data))
        return fetched[0].data, facts

    def _with_retries(self, request: Callable[[], Result]) -> Result:
        try:
            return self._report.outage.attempt(request)
        except StoreUnavailable as error:
            if self._pool.stopping.is_set():
                raise Stopped from error
            raise
