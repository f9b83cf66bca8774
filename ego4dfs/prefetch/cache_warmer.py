"""`prefetch --to cache`: fetches whole objects into the block cache, and pins them with `--pin`."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from ego4dfs.blocks import (
    BLOCK_SIZE,
    PART_SIZE,
    Extent,
    ObjectRef,
    block_extents,
    join_adjacent,
    missing_extents,
    part_extents,
    total_bytes,
)
from ego4dfs.cache import PIN_SHARE
from ego4dfs.cache.blockfile import allocated_bytes
from ego4dfs.catalog import Listing
from ego4dfs.copies import State
from ego4dfs.datasets import METADATA, version_directory
from ego4dfs.errors import (
    CacheError,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.prefetch.etag_check import ATTEMPTS
from ego4dfs.prefetch.failure_limit import FailureLimit
from ego4dfs.prefetch.outage import Outage, OutageTooLong
from ego4dfs.prefetch.plan import COMPLETE, TO_FETCH, DatasetPlan, Item, Plan
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.prefetch.worker_pool import Task, WorkerPool
from ego4dfs.reader import Downloads, EtagVerifier
from ego4dfs.reader.etag_verifier import Outcome
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.text import distinct_sizes

_REQUEST_BYTES = 4 * BLOCK_SIZE  # of each thread: together below what Downloads keeps in memory
_THREADS = 16
_END_S = 60.0  # a running request ends earlier, by its own time-out
_MAX_CONSECUTIVE_FAILURES = 8
CACHE_WRITE_S = 300.0
"""How long one request's bytes wait for the cache's writer."""


class CacheWarmer:
    """Plans and fetches objects into the cache, except blocks and parts that are cached.

    Each object is compared with its ETag, like copies on disk. Make one for each run; its own
    threads are the only ones that may share it.
    """

    def __init__(
        self, session: Session, *, retry_for_s: float = 0.0, compares_etags: bool = True
    ) -> None:
        """Fetch with the store, facts and cache of `session`.

        During an outage of the store, requests are retried for `retry_for_s`.
        """
        self._pool = WorkerPool(self._stop)
        self.report = Report(outage=Outage(retry_for_s, self._pool.stopping))
        self._store = session.store
        self._facts = session.facts
        self._cache = session.cache
        self._downloads = Downloads(session.store, session.cache, on_arrival=session.facts.confirm)
        self._verifier: EtagVerifier | None = None
        if compares_etags:
            self._verifier = EtagVerifier(session.cache, session.metrics, session.store.renew)
        self._directory = version_directory(session.catalog.version)
        self._lock = threading.Lock()  # guards all below
        self._requests_left: Counter[str] = Counter()  # by path
        self._failed: set[str] = set()
        self._failure_limit = FailureLimit(_MAX_CONSECUTIVE_FAILURES)
        self._attempts: Counter[str] = Counter()  # by object id
        self._objects: dict[str, tuple[Item, ObjectRef]] = {}  # fetched in this run, by object id
        self._retries: deque[Task] = deque()

    def plan(
        self,
        listings: Iterable[Listing],
        *,
        metadata_url: str = "",
        on_facts: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Plan:
        """Return the plan of these datasets and ego4d.json: what is cached and what is missing.

        Raises CredentialsRejected when the key is refused, and StoreUnavailable when the store
        does not answer.
        """
        rows = [("", 1, [(METADATA, "", metadata_url)])] if metadata_url else []
        for listing in listings:
            files = [(entry.name, entry.uid, entry.url) for entry in listing.entries]
            rows.append((listing.dataset, len(listing.manifest.entries), files))
        total = sum(len(files) for _, _, files in rows)
        self._facts.sweep(url for _, _, files in rows for _, _, url in files)
        datasets, done, begun = [], 0, 0
        for dataset, count, files in rows:
            items = []
            for name, uid, url in files:
                item, cached = self._item(dataset, name, uid, url)
                items.append(item)
                begun += cached if item.state in TO_FETCH else 0
                done += 1
                on_facts(done, total)
            datasets.append(DatasetPlan(dataset, count, items))
        return Plan(datasets, partial_bytes=begun)

    def check_room(self, plan: Plan, *, pin: bool) -> None:
        """Raise CacheError if the selection is larger than the cache, or than can be pinned."""
        refs = self._refs(plan)
        limit, what = (
            int(self._cache.admin.max_bytes * PIN_SHARE),
            "fit in the cache beside other data",
        )
        if pin:
            pinned = {found.url for found in self._cache.admin.pins()}
            refs = {url: ref for url, ref in refs.items() if url not in pinned}
            limit, what = self._cache.admin.bytes_left_to_pin, "can still be pinned"
        needed = sum(map(_bytes_of, refs.values()))
        if needed > limit:
            selected, room = distinct_sizes(needed, limit)
            raise CacheError(
                f"{selected} are selected, and {room} {what}",
                hint="select less, set a larger --cache-size, or download to a directory: -o DIR",
            )

    def run(
        self, plan: Plan, tick: Callable[[], None] = lambda: None, *, pin: bool = False
    ) -> bool:
        """Fetch what is missing; with `pin`, protect all of it from eviction.

        Calls `tick` several times a second from this thread. An object that cannot be fetched does
        not stop the others. KeyboardInterrupt, and errors that would fail every object, stop the
        run and are then in `report.stopped_by`. Returns whether all threads have ended. Raises
        CacheError as `check_room` does, before a byte is fetched.
        """
        self.check_room(plan, pin=pin)
        self.report.files = plan.count(*State)
        self.report.total_bytes = plan.bytes(*TO_FETCH)
        self.report.leave_out(plan)
        self.report.done(Status.SKIPPED, plan.count(*COMPLETE))
        refs = self._refs(plan)
        for ref in refs.values() if pin else ():
            self._cache.admin.pin(ref.object_id, self._keys(ref))
        tasks = self._tasks([item for item in plan.items if item.state in TO_FETCH], refs)
        self._pool.add("cache-warm", lambda: self._next(tasks), _THREADS)
        try:
            self._pool.run(tick)
        except (KeyboardInterrupt, OSError) as error:
            self._stop(error)
        self._pool.stop()
        try:
            has_ended = self._pool.ended(0.5 if self.report.stopped_by else _END_S)
        except KeyboardInterrupt as error:
            self._stop(error)
            return False
        if has_ended:
            self._downloads.close()
        return has_ended

    def _stop(self, error: BaseException) -> None:
        self.report.stop(error)

    def _item(self, dataset: str, name: str, uid: str, url: str) -> tuple[Item, int]:
        """Return the plan of one file, and how many of its bytes are cached."""
        directory = f"{self._directory}/{dataset}" if dataset else self._directory
        try:
            facts = self._get_facts(url)
        except (CredentialsRejected, StoreUnavailable):
            raise
        except StoreError as error:
            state = State.MISSING if isinstance(error, ObjectMissing) else State.REFUSED
            return Item(directory, name, dataset, uid, url, None, state, str(error)), 0
        ref = self._ref(url, facts)
        cached = ref.size - sum(map(total_bytes, self._missing(ref)))
        state = State.RIGHT if cached == ref.size else State.FETCH
        return Item(directory, name, dataset, uid, url, facts, state), cached

    def _get_facts(self, url: str) -> ObjectFacts:
        outage = self.report.outage
        if not outage.retry_for_s:
            return self._facts.get(url)
        return outage.attempt(lambda: self._facts.get(url))

    def _ref(self, url: str, facts: ObjectFacts) -> ObjectRef:
        return ObjectRef.of(self._store.source, url, facts.size, facts.etag)

    def _refs(self, plan: Plan) -> dict[str, ObjectRef]:
        return {i.url: self._ref(i.url, i.facts) for i in plan.items if i.facts is not None}

    def _missing(self, ref: ObjectRef) -> list[list[Extent]]:
        missing = missing_extents(ref, 0, ref.size, BLOCK_SIZE, self._cache.contains)
        return list(join_adjacent(missing, _REQUEST_BYTES))

    def _keys(self, ref: ObjectRef) -> Iterator[str]:
        """Yield the keys of an object's blocks, and of parts where a block may be kept in parts."""
        for block in block_extents(ref):
            yield block.key
            if not self._cache.contains(block.key):
                yield from (part.key for part in part_extents(ref, block.start, block.stop))

    def _next(self, tasks: Iterator[Task]) -> Task | None:
        return self._retries.popleft() if self._retries else next(tasks, None)

    def _tasks(self, items: Sequence[Item], refs: dict[str, ObjectRef]) -> Iterator[Task]:
        for item in items:
            ref = refs[item.url]
            missing = self._missing(ref)
            cached = ref.size - sum(map(total_bytes, missing))
            self.report.begin(item.path, ref.size)
            self.report.moved(item.path, resumed=cached)
            with self._lock:
                self._requests_left[item.path] = len(missing)
            if not missing:  # it was cached since the plan was made, or is listed twice
                self._end(item)
            for request in missing:
                yield partial(self._fetch, item, ref, request)

    def _fetch(self, item: Item, ref: ObjectRef, request: list[Extent]) -> None:
        if item.path in self._failed:
            return
        try:
            fetched = self.report.outage.attempt(lambda: self._fetch_once(ref, request))
        except StoreError as error:
            if isinstance(error, ObjectChanged):
                self._facts.correct(item.url, error)  # the next run plans with the right facts
            self._fail(item, error)
            return
        self.report.moved(item.path, fetched=fetched, cached=total_bytes(request) - fetched)
        with self._lock:
            self._failure_limit.succeeded()
            self._requests_left[item.path] -= 1
            is_whole = not self._requests_left[item.path]
        if is_whole and self._agrees_with_etag(item, ref):
            self._end(item)

    def _fetch_once(self, ref: ObjectRef, request: list[Extent]) -> int:
        """Fetch a request, wait until the cache has its bytes, and return how many were fetched.

        Raises StoreError, even if only the cache cannot keep them.
        """
        wanted = range(request[0].start, request[-1].stop)
        begun = self._downloads.fetch(ref, wanted, PART_SIZE)
        for extent in request:
            flight = begun.get(extent.key) or self._downloads.flight(extent.key)
            if flight is None:
                is_kept = self._cache.contains(extent.key)
            else:
                is_kept = flight.wait_stored(CACHE_WRITE_S)
            if not is_kept:
                reason = "its disk is full or does not answer, or the rest is pinned"
                raise StoreError(f"{ref.url}: the cache could not keep it: {reason}", url=ref.url)
        return sum(map(len, begun.values()))

    def _agrees_with_etag(self, item: Item, ref: ObjectRef) -> bool:
        """Compare a whole object with its ETag; a wrong one was removed and is fetched again."""
        if self._verifier is None:
            return True
        with self._lock:
            self._objects[ref.object_id] = (item, ref)
        is_rejected = self._verifier.verify(ref) is Outcome.REJECTED
        if is_rejected:
            self._retry(item, ref)
        for other in self._verifier.recheck():
            if self._verifier.verify(other) is Outcome.REJECTED:
                other_item, _ = self._objects[other.object_id]
                self.report.done(count=-1)  # it was counted before another one proved it wrong
                self._retry(other_item, other)
        return not is_rejected

    def _retry(self, item: Item, ref: ObjectRef) -> None:
        with self._lock:
            self._attempts[ref.object_id] += 1
            is_last = self._attempts[ref.object_id] == ATTEMPTS
        if is_last:
            text = f"{ref.url}: its bytes do not agree with its ETag {ref.etag}"
            self._fail(item, StoreError(text, url=ref.url))
            return
        missing = self._missing(ref)
        if not missing:  # another process has cached it meanwhile
            self._end(item)
            return
        with self._lock:
            self._requests_left[item.path] = len(missing)
        tasks = [partial(self._fetch, item, ref, request) for request in missing]
        self._pool.update(lambda: self._retries.extend(tasks))

    def _end(self, item: Item) -> None:
        self.report.end(item.path)
        self.report.done()

    def _fail(self, item: Item, error: StoreError) -> None:
        """Count an object that could not be fetched; raise an error that affects all objects."""
        if isinstance(error, (CredentialsRejected, OutageTooLong)):
            raise error
        if isinstance(error, StoreUnavailable) and self._pool.stopping.is_set():
            return  # the run ends, and did not wait for it
        with self._lock:
            if item.path in self._failed:
                return
            self._failed.add(item.path)
            gives_up = isinstance(error, StoreUnavailable) and self._failure_limit.failed()
        self.report.end(item.path)
        self.report.give_up(item, error)
        if gives_up:
            raise error


def _bytes_of(ref: ObjectRef) -> int:
    return sum(allocated_bytes(stop - start) for _, start, stop in block_extents(ref))
