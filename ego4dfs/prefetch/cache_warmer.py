"""Prefetch into the block cache: whole objects before they are read, and pinned if so wished."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from ego4dfs.blocks import BLOCK_SIZE, Extent, ObjectRef, block_extents, join_adjacent, total_bytes
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
from ego4dfs.prefetch.outage import Outage, OutageTooLong
from ego4dfs.prefetch.plan import COMPLETE, TO_FETCH, DatasetPlan, Item, Plan
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.prefetch.worker_pool import Task, WorkerPool
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.text import distinct_sizes

_REQUEST_BYTES = 4 * BLOCK_SIZE  # of each thread: what waits for the disk stays below 64 MiB
_THREADS = 16
_END_S = 60.0  # a request under way ends by its own time-out before
_VAIN = 8


class CacheWarmer:
    """Plans and brings objects into the cache; what is there already is not fetched again.

    One for each run. Safe from several threads where it uses them itself.
    """

    def __init__(self, session: Session, *, retry_for_s: float = 0.0) -> None:
        """Fetch with the store, facts and cache of `session`.

        An outage of the store is waited out for `retry_for_s`.
        """
        self._pool = WorkerPool(self._stop)
        self.report = Report(outage=Outage(retry_for_s, self._pool.stopping))
        self._store = session.store
        self._facts = session.facts
        self._cache = session.cache
        self._directory = version_directory(session.catalog.version)
        self._lock = threading.Lock()  # guards the counts
        self._left: Counter[str] = Counter()
        self._failed: set[str] = set()
        self._vain = 0

    def plan(
        self,
        listings: Iterable[Listing],
        *,
        metadata_url: str = "",
        on_facts: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Plan:
        """Return what is in the cache and what is not, of these datasets and of ego4d.json.

        Raises CredentialsRejected when the key is refused, and StoreUnavailable when nothing
        answers any more.
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
                item, here = self._item(dataset, name, uid, url)
                items.append(item)
                begun += here if item.state in TO_FETCH else 0
                done += 1
                on_facts(done, total)
            datasets.append(DatasetPlan(dataset, count, items))
        return Plan(datasets, begun_bytes=begun)

    def check_room(self, plan: Plan, *, pin: bool) -> None:
        """Raise CacheError when the cache, or what may be pinned of it, is too small for all."""
        refs = self._refs(plan)
        limit, what = int(self._cache.admin.max_bytes * PIN_SHARE), "fit beside what else is read"
        if pin:
            pinned = {found.url for found in self._cache.admin.pins()}
            refs = {url: ref for url, ref in refs.items() if url not in pinned}
            limit, what = self._cache.admin.bytes_left_to_pin, "can still be pinned"
        needed = sum(map(_bytes_of, refs.values()))
        if needed > limit:
            selected, room = distinct_sizes(needed, limit)
            raise CacheError(
                f"{selected} are selected, and {room} {what}",
                hint="choose less, give a larger --cache-size, or copy to a directory: -o DIR",
            )

    def run(
        self, plan: Plan, tick: Callable[[], None] = lambda: None, *, pin: bool = False
    ) -> bool:
        """Bring in what is to come, and with `pin` keep all of it from eviction.

        Calls `tick` some times a second from this thread. One object that cannot be had does not
        stop the others. Returns whether all threads have ended; KeyboardInterrupt and what befalls
        every object stop the run in order, and are then `report.stopped_by`. Raises CacheError,
        before a byte is fetched, as `check_room` does.
        """
        self.check_room(plan, pin=pin)
        self.report.files = plan.count(*State)
        self.report.total_bytes = plan.bytes(*TO_FETCH)
        self.report.leave_out(plan)
        self.report.done(Status.SKIPPED, plan.count(*COMPLETE))
        refs = self._refs(plan)
        for ref in refs.values() if pin else ():
            self._cache.admin.pin(ref.object_id, (block.key for block in block_extents(ref)))
        tasks = self._tasks([item for item in plan.items if item.state in TO_FETCH], refs)
        self._pool.add("warm", lambda: next(tasks, None), _THREADS)
        try:
            self._pool.run(tick)
        except (KeyboardInterrupt, OSError) as error:
            self._stop(error)
        self._pool.stop()
        try:
            return self._pool.ended(0.5 if self.report.stopped_by else _END_S)
        except KeyboardInterrupt as error:
            self._stop(error)
            return False

    def _stop(self, error: BaseException) -> None:
        self.report.stop(error)

    def _item(self, dataset: str, name: str, uid: str, url: str) -> tuple[Item, int]:
        """Return the plan of one file, and how many of its bytes are in the cache."""
        directory = f"{self._directory}/{dataset}" if dataset else self._directory
        try:
            facts = self._ask(url)
        except (CredentialsRejected, StoreUnavailable):
            raise
        except StoreError as error:
            state = State.MISSING if isinstance(error, ObjectMissing) else State.REFUSED
            return Item(directory, name, dataset, uid, url, None, state, str(error)), 0
        ref = self._ref(url, facts)
        here = ref.size - sum(map(total_bytes, self._missing(ref)))
        state = State.RIGHT if here == ref.size else State.FETCH
        return Item(directory, name, dataset, uid, url, facts, state), here

    def _ask(self, url: str) -> ObjectFacts:
        outage = self.report.outage
        if not outage.retry_for_s:
            return self._facts.get(url)
        return outage.attempt(lambda: self._facts.get(url))

    def _ref(self, url: str, facts: ObjectFacts) -> ObjectRef:
        return ObjectRef.of(self._store.source, url, facts.size, facts.etag)

    def _refs(self, plan: Plan) -> dict[str, ObjectRef]:
        return {i.url: self._ref(i.url, i.facts) for i in plan.items if i.facts is not None}

    def _missing(self, ref: ObjectRef) -> list[list[Extent]]:
        lacking = (block for block in block_extents(ref) if not self._cache.contains(block.key))
        return list(join_adjacent(lacking, _REQUEST_BYTES))

    def _tasks(self, items: Sequence[Item], refs: dict[str, ObjectRef]) -> Iterator[Task]:
        for item in items:
            ref = refs[item.url]
            missing = self._missing(ref)
            here = ref.size - sum(map(total_bytes, missing))
            self.report.begin(item.path, ref.size)
            self.report.moved(item.path, resumed=here)
            with self._lock:
                self._left[item.path] = len(missing)
            if not missing:  # it came since the plan was made, or is named twice
                self._end(item)
            for request in missing:
                yield partial(self._bring, item, ref, request)

    def _bring(self, item: Item, ref: ObjectRef, request: list[Extent]) -> None:
        if item.path in self._failed:
            return
        start, stop = request[0].start, request[-1].stop
        try:
            fetched = self.report.outage.attempt(
                lambda: self._store.read_range(ref.url, start, stop, etag=ref.etag, size=ref.size)
            )
            if len(fetched.data) != stop - start or fetched.start != start:
                raise StoreUnavailable(f"{ref.url}: the store sent another range", url=ref.url)
            self._put(ref, request, fetched.data)
        except StoreError as error:
            if isinstance(error, ObjectChanged):
                self._facts.correct(item.url, error)  # the next run plans with what is true
            self._fail(item, error)
            return
        self.report.moved(item.path, fetched=stop - start)
        with self._lock:
            self._vain = 0
            self._left[item.path] -= 1
            is_whole = not self._left[item.path]
        if is_whole:
            self._end(item)

    def _end(self, item: Item) -> None:
        self.report.end(item.path)
        self.report.done()

    def _fail(self, item: Item, error: StoreError) -> None:
        """Count an object as not to be had; raise what will befall every other one too."""
        if isinstance(error, (CredentialsRejected, OutageTooLong)):
            raise error
        if isinstance(error, StoreUnavailable) and self._pool.stopping.is_set():
            return  # it was not waited for
        with self._lock:
            if item.path in self._failed:
                return
            self._failed.add(item.path)
            self._vain += isinstance(error, StoreUnavailable)
            is_vain = self._vain >= _VAIN
        self.report.end(item.path)
        self.report.give_up(item, error)
        if is_vain:
            raise error

    def _put(self, ref: ObjectRef, request: list[Extent], data: memoryview) -> None:
        """Hand the blocks to the cache and wait until it has them, so that memory is bounded."""
        stored: list[bool] = []
        arrived = threading.Semaphore(0)

        def done(is_stored: bool) -> None:  # noqa: FBT001 - its only argument
            stored.append(is_stored)
            arrived.release()

        first = request[0].start
        for key, start, stop in request:
            self._cache.put(key, ref.url, data[start - first : stop - first], done)
        for _ in request:
            arrived.acquire()
        if not all(stored):
            reason = "the cache could not keep it: the disk is full, or the rest is pinned"
            raise StoreError(f"{ref.url}: {reason}", url=ref.url)


def _bytes_of(ref: ObjectRef) -> int:
    return sum(allocated_bytes(stop - start) for _, start, stop in block_extents(ref))
