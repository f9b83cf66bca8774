"""CacheWarmer: objects, or ranges of them, are planned, fetched into the cache and pinned."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from ego4dfs.blocks import Extent, ObjectRef, total_bytes
from ego4dfs.cache import PIN_SHARE
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
from ego4dfs.prefetch.cache_run import CacheRun, bytes_on_disk, count_bytes
from ego4dfs.prefetch.etag_check import ATTEMPTS
from ego4dfs.prefetch.plan import COMPLETE, TO_FETCH, DatasetPlan, Item, Plan
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.prefetch.shard import Shard
from ego4dfs.prefetch.worker_pool import Task
from ego4dfs.reader import EtagVerifier
from ego4dfs.reader.etag_verifier import Outcome
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.text import distinct_sizes


class CacheWarmer:
    """Plans and fetches objects into the cache, except blocks and parts that are cached.

    Each whole object is compared with its ETag, like copies on disk. Make one for each run; its
    own threads are the only ones that may share it.
    """

    def __init__(
        self, session: Session, *, retry_for_s: float = 0.0, compares_etags: bool = True
    ) -> None:
        """Fetch with the store, facts and cache of `session`.

        During an outage of the store, requests are retried for `retry_for_s`.
        """
        self._run = CacheRun(session, retry_for_s)
        self._facts = session.facts
        self._admin = session.cache.admin
        self._verifier: EtagVerifier | None = None
        if compares_etags:
            self._verifier = EtagVerifier(session.cache, session.metrics, session.store.renew)
        self._directory = version_directory(session.catalog.version)
        self._lock = threading.Lock()  # guards all below
        self._requests_left: Counter[str] = Counter()  # by path
        self._attempts: Counter[str] = Counter()  # by object id
        self._objects: dict[str, tuple[Item, ObjectRef]] = {}  # fetched in this run, by object id
        self._retries: deque[Task] = deque()

    @property
    def report(self) -> Report:
        """What the run has done so far."""
        return self._run.report

    def plan(
        self,
        listings: Iterable[Listing],
        *,
        metadata_url: str = "",
        on_facts: Callable[[int, int], None] = lambda _done, _total: None,
        facts_only: bool = False,
        shard: Shard | None = None,
    ) -> Plan:
        """Return the plan of these datasets and ego4d.json: what is cached and what is missing.

        With `facts_only` the cache is not looked at: each block of each object would be, and who
        needs little of them narrows the items. All that exist are then to be fetched. With `shard`
        the plan has that part of the files.
        Raises CredentialsRejected when the key is refused, and StoreUnavailable when the store
        does not answer.
        """
        rows = [("", 1, [(METADATA, "", metadata_url)])] if metadata_url else []
        for listing in listings:
            files = [(entry.name, entry.uid, entry.url) for entry in listing.entries]
            rows.append((listing.dataset, len(listing.manifest.entries), files))
        total = sum(len(files) for _, _, files in rows)
        self._facts.sweep(url for _, _, files in rows for _, _, url in files)
        datasets, done = [], 0
        for dataset, count, files in rows:
            items = []
            for name, uid, url in files:
                items.append(self._item(dataset, name, uid, url))
                done += 1
                on_facts(done, total)
            datasets.append(DatasetPlan(dataset, count, items))
        share = None
        if shard is not None:
            datasets, share = shard.of(datasets, by_size=True)
        plan = Plan(datasets, share=share)
        return plan if facts_only else self.compared(plan)

    def compared(self, plan: Plan) -> Plan:
        """Return a plan with what is cached now of the files that are to be fetched."""
        compared = [[self._compared(item) for item in dataset.items] for dataset in plan.datasets]
        return replace(
            plan,
            datasets=[
                replace(dataset, items=[item for item, _ in some])
                for dataset, some in zip(plan.datasets, compared, strict=True)
            ],
            partial_bytes=sum(begun for some in compared for _, begun in some),
        )

    def check_room(self, plan: Plan, *, pin: bool) -> None:
        """Raise CacheError if the plan needs more than the cache has, or than can be pinned."""
        limit, what = (
            int(self._admin.max_bytes * PIN_SHARE),
            "fit in the cache beside other data",
        )
        if pin:
            limit, what = self._admin.bytes_left_to_pin, "can still be pinned"
        needed = self._bytes_to_keep(plan, pin=pin)
        if needed > limit:
            selected, room = distinct_sizes(needed, limit)
            raise CacheError(
                f"{selected} are selected, and {room} {what}",
                hint="select less, set a larger --cache-size, or download to a directory: -o DIR",
            )

    def _bytes_to_keep(self, plan: Plan, *, pin: bool) -> int:
        """Return how much of the disk a plan takes in the cache; with `pin` less what is pinned.

        Ranges are compared by key: other ranges of their object may be pinned.
        """
        items = {item.url: item for item in plan.items if item.facts is not None}.values()
        whole = [self._run.ref(item) for item in items if item.ranges is None]
        some = [(self._run.ref(item), item.ranges) for item in items if item.ranges is not None]
        by_url = {found.url: found.bytes for found in self._admin.pins()} if pin and whole else {}
        keys = self._admin.pinned_keys() if pin and some else frozenset()
        needed = sum(max(0, bytes_on_disk(ref) - by_url.get(ref.url, 0)) for ref in whole)
        return needed + sum(self._run.bytes_to_keep(ref, ranges, keys) for ref, ranges in some)

    def run(
        self, plan: Plan, tick: Callable[[], None] = lambda: None, *, pin: bool = False
    ) -> bool:
        """Fetch what is missing; with `pin`, protect all of it from eviction.

        An object that cannot be fetched does not stop the others; see CacheRun for `tick` and the
        result. Raises CacheError as `check_room` does, before a byte is fetched.
        """
        self.check_room(plan, pin=pin)
        self.report.files, self.report.share = plan.count(*State), plan.share
        self.report.total_bytes = plan.bytes(*TO_FETCH)
        self.report.leave_out(plan)
        self.report.done(Status.SKIPPED, plan.count(*COMPLETE))
        if pin:
            self._pin(item for item in plan.items if item.facts is not None)
        wanted = [item for item in plan.items if item.state in TO_FETCH]
        tasks = self._tasks(wanted)
        has_ended = self._run.run(lambda: self._next(tasks), tick)
        if pin and self.report.stopped_by is None:
            self._pin(wanted)  # what other writers have stored meanwhile is not pinned yet
        return has_ended

    def _pin(self, items: Iterable[Item]) -> None:
        for item in items:
            ref = self._run.ref(item)
            self._admin.pin(ref.object_id, self._run.keys(ref, item.ranges))

    def narrowed(self, item: Item, ranges: tuple[range, ...]) -> Item:
        """Return an item of which only these ranges, in whole parts, are wanted."""
        item = replace(item, ranges=ranges)
        missing = count_bytes(self._run.missing(self._run.ref(item), ranges))
        return replace(item, state=State.FETCH if missing else State.RIGHT)

    def cached_bytes(self, item: Item) -> int:
        """Return how many of the wanted bytes of an item are cached."""
        return item.size - count_bytes(self._run.missing(self._run.ref(item), item.ranges))

    def _item(self, dataset: str, name: str, uid: str, url: str) -> Item:
        """Return one file with its facts, to be fetched if it exists."""
        directory = f"{self._directory}/{dataset}" if dataset else self._directory
        try:
            facts = self._get_facts(url)
        except (CredentialsRejected, StoreUnavailable):
            raise
        except StoreError as error:
            state = State.MISSING if isinstance(error, ObjectMissing) else State.REFUSED
            return Item(directory, name, dataset, uid, url, None, state, str(error))
        return Item(directory, name, dataset, uid, url, facts, State.FETCH)

    def _compared(self, item: Item) -> tuple[Item, int]:
        """Return an item by what is cached, and how many bytes of it are if that is not all."""
        if item.state not in TO_FETCH:
            return item, 0
        cached = self.cached_bytes(item)
        return (replace(item, state=State.RIGHT), 0) if cached == item.size else (item, cached)

    def _get_facts(self, url: str) -> ObjectFacts:
        outage = self.report.outage
        if not outage.retry_for_s:
            return self._facts.get(url)
        return outage.attempt(lambda: self._facts.get(url))

    def _next(self, tasks: Iterator[Task]) -> Task | None:
        return self._retries.popleft() if self._retries else next(tasks, None)

    def _tasks(self, items: Sequence[Item]) -> Iterator[Task]:
        for item in items:
            ref = self._run.ref(item)
            missing = self._run.missing(ref, item.ranges)
            self.report.begin(item.path, item.size)
            self.report.moved(item.path, resumed=item.size - count_bytes(missing))
            with self._lock:
                self._requests_left[item.path] = len(missing)
            if not missing:  # it was cached since the plan was made, or is listed twice
                self._end(item)
            for request in missing:
                yield partial(self._fetch, item, ref, request)

    def _fetch(self, item: Item, ref: ObjectRef, request: list[Extent]) -> None:
        if self._run.has_failed(item):
            return
        try:
            fetched = self._run.fetch(ref, request)
        except StoreError as error:
            if isinstance(error, ObjectChanged):
                self._facts.correct(item.url, error)  # the next run plans with the right facts
            self._run.fail(item, error)
            return
        self.report.moved(item.path, fetched=fetched, cached=total_bytes(request) - fetched)
        with self._lock:
            self._requests_left[item.path] -= 1
            is_whole = not self._requests_left[item.path]
        if is_whole and self._agrees_with_etag(item, ref):
            self._end(item)

    def _agrees_with_etag(self, item: Item, ref: ObjectRef) -> bool:
        """Compare a whole object with its ETag; a wrong one was removed and is fetched again."""
        if self._verifier is None or item.ranges is not None:
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
            self._run.fail(item, StoreError(text, url=ref.url))
            return
        missing = self._run.missing(ref, item.ranges)
        if not missing:  # another process has cached it meanwhile
            self._end(item)
            return
        with self._lock:
            self._requests_left[item.path] = len(missing)
        tasks = [partial(self._fetch, item, ref, request) for request in missing]
        self._run.pool.update(lambda: self._retries.extend(tasks))

    def _end(self, item: Item) -> None:
        self.report.end(item.path)
        self.report.done()
