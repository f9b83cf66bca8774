"""Fetcher: carries out a plan, many files at a time, one failure never touching another file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ego4dfs.cache import BlockCache
from ego4dfs.errors import (
    CredentialsRejected,
    ObjectChanged,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts import FactsIndex
from ego4dfs.prefetch.checksum import Proof, prove, prove_bytes
from ego4dfs.prefetch.copying import Copy, RangeFetcher, Stopped
from ego4dfs.prefetch.journal import Journal
from ego4dfs.prefetch.landing import Landing
from ego4dfs.prefetch.lanes import Lanes, Task
from ego4dfs.prefetch.layout import Layout
from ego4dfs.prefetch.outage import Outage, OutageTooLong
from ego4dfs.prefetch.partfile import PartFile
from ego4dfs.prefetch.plan import THERE, TO_GET, Item, Plan, State
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.small import SMALL_BYTES, SmallReader
from ego4dfs.store import ObjectFacts, ObjectStore

JOBS = 8
SMALL_JOBS_PER_JOB = 4

_SAVE_EVERY_S = 15.0
_END_S = 0.5
_DRAIN_S = 30.0
_ATTEMPTS = 3
_VAIN_FILES_IN_A_ROW = 16


@dataclass(frozen=True, slots=True)
class Means:
    """What a Fetcher works with."""

    store: ObjectStore
    facts: FactsIndex
    cache: BlockCache
    journal: Journal
    layout: Layout
    release: str


class Fetcher:
    """Carries out one plan.

    Every file ends as done, skipped, refused, missing or failed in `report`. What stops the whole
    run, a rejected key or a full disk, is `report.stopped_by`: then the files that are not counted
    are to be resumed.
    """

    def __init__(
        self, means: Means, plan: Plan, *, jobs: int = JOBS, retry_for_s: float = 0.0
    ) -> None:
        """Get ready; `jobs` ranges of large files are fetched at once.

        An outage of the store is waited out for `retry_for_s`.
        """
        self.report = Report(plan.count(*State), plan.bytes(*TO_GET))
        self._means = means
        self._plan = plan
        self._lanes = Lanes(self._stop)
        self.report.outage = Outage(retry_for_s, self._lanes.stopping)
        told = {"source": means.store.source, "release": means.release}
        self._landing = Landing(means.layout, means.journal, self.report, **told)
        self._ranges = RangeFetcher(means.store, means.cache, self.report, self._lanes)
        self._whole = SmallReader(means.store, means.facts, self._ranges, self.report, self._lanes)
        self._active: list[Copy] = []
        self._small = self._items(is_small=True)
        self._large = self._items(is_small=False)
        self._vain = 0
        self._lanes.add("small", self._take_small, jobs * SMALL_JOBS_PER_JOB)
        self._lanes.add("range", self._take_range, jobs)

    def run(self, tick: Callable[[], None] = lambda: None) -> bool:
        """Fetch what is to be fetched, calling `tick` some times a second from this thread.

        Returns whether all threads have ended; if not, some wait for answers that are no longer
        wanted. KeyboardInterrupt stops it in order, and is then `report.stopped_by`.
        """
        self.report.leave_out(self._plan)
        try:
            self._landing.accept_all(item for item in self._plan.items if item.state in THERE)
            self._lanes.run(_Ticks(tick, self._landing.save))
        except (KeyboardInterrupt, OSError) as error:
            self._stop(error)
        return self._end()

    def _end(self) -> bool:
        self._lanes.stop()
        try:
            # What is under way when a key expires was begun with a good one: let it come.
            ended = self._lanes.ended(_END_S if self._lanes.abandoned.is_set() else _DRAIN_S)
        except KeyboardInterrupt as error:
            self._stop(error)
            ended = self._lanes.ended(_END_S)
        try:
            self._landing.save()
        except OSError as error:
            self._stop(error)
        if ended:
            for copy in self._active:
                copy.part.close()
        return ended

    def _stop(self, error: BaseException) -> None:
        if not isinstance(error, StoreError):
            self._lanes.abandoned.set()
        if not isinstance(error, Stopped):
            self.report.stop(error)

    def _items(self, *, is_small: bool) -> Iterator[Item]:
        wanted = (item for item in self._plan.items if item.state in TO_GET)
        return (item for item in wanted if (item.size <= SMALL_BYTES) == is_small)

    def _take_small(self) -> Task | None:
        item = next(self._small, None)
        return partial(self._guarded, item, self._fetch_small) if item else None

    def _take_range(self) -> Task | None:
        for copy in self._active:
            if copy.todo and copy.error is None:
                start, stop = copy.take(self._ranges.range_bytes)
                return partial(self._fetch_range, copy, start, stop)
        item = next(self._large, None)
        return partial(self._guarded, item, self._open) if item else None

    def _guarded(self, item: Item, work: Callable[[Item], None]) -> None:
        try:
            work(item)
        except StoreError as error:
            self._fail(item, error)

    def _fail(self, item: Item, error: StoreError) -> None:
        """Count a file as not to be had; raise what will befall every other file too."""
        self.report.end(item.path)
        if isinstance(error, (CredentialsRejected, OutageTooLong)):
            raise error
        if isinstance(error, StoreUnavailable):
            self._vain += 1
            if self._vain >= _VAIN_FILES_IN_A_ROW:
                raise error
        self.report.give_up(item, error)

    def _is_right(self, item: Item) -> bool:
        """Tell whether the file that lies there is the object; record it if so."""
        path = self._means.layout.root / item.path
        facts = item.facts or self._ask(item.url)
        try:
            if path.stat().st_size != facts.size:
                return False
            proof, _ = prove(path, facts.size, facts.etag)
        except OSError:
            return False  # gone, or not ours to read: it is fetched
        if proof is Proof.WRONG or (proof is Proof.UNKNOWN and not item.lenient):
            return False
        self._landing.accept(item, facts, proof.value)
        return True

    def _fetch_small(self, item: Item) -> None:
        if item.state is State.CHECK and self._is_right(item):
            return
        facts, found = item.facts, ""
        for _ in range(_ATTEMPTS):
            try:
                data, facts = self._whole.read(item, facts)
            except ObjectChanged:
                self._means.facts.forget(item.url)
                facts = None
                continue
            if len(data) < facts.size:
                self._begin(item, facts, head=data)
                return
            proof, md5 = prove_bytes(data, facts.etag)
            if proof is Proof.WRONG and md5 == found:
                proof = Proof.UNKNOWN  # twice the same: this ETag is no MD5 of the bytes
            if proof is not Proof.WRONG:
                self._land_small(item, facts, data, proof.value)
                return
            found = md5
        raise StoreError(f"{item.url}: its bytes do not agree with its ETag", url=item.url)

    def _land_small(self, item: Item, facts: ObjectFacts, data: memoryview, checksum: str) -> None:
        part = self._part(item, facts)
        try:
            part.fill(data)
            self._landing.land(item, facts, part, checksum)
        finally:
            part.close()
        self._vain = 0

    def _open(self, item: Item) -> None:
        if item.state is State.CHECK and self._is_right(item):
            return
        facts = item.facts or self._ask(item.url)
        self._begin(item, facts)

    def _ask(self, url: str) -> ObjectFacts:
        return self.report.outage.attempt(lambda: self._means.facts.get(url))

    def _part(self, item: Item, facts: ObjectFacts) -> PartFile:
        path = self._means.layout.root / item.path
        return PartFile(path, item.path, item.url, facts, self._means.journal)

    def _begin(
        self,
        item: Item,
        facts: ObjectFacts,
        *,
        head: memoryview | None = None,
        attempt: int = 0,
        md5: str = "",
    ) -> None:
        """Go on with a large file, or begin it; `head` are bytes that are here already."""
        part = self._part(item, facts)
        if head is not None and part.missing == [(0, facts.size)]:
            part.write(0, 0, head)
            part.missing = [(len(head), facts.size)]
        copy = Copy.of(item, facts, part, attempt, md5)
        self.report.begin(item.path, facts.size)
        missing = sum(stop - start for start, stop in part.missing)
        self.report.moved(item.path, resumed=facts.size - missing - len(head or b""))
        if copy.todo:
            self._lanes.locked(partial(self._active.append, copy))
        else:
            self._close(copy)

    def _fetch_range(self, copy: Copy, start: int, stop: int) -> None:
        error: StoreError | None = None
        try:
            self._ranges.fetch(copy, start, stop)
        except StoreError as raised:
            error = raised
        over: list[Copy] = []
        self._lanes.locked(partial(self._range_ended, copy, error, over))
        if over:
            self._close(copy)

    def _range_ended(self, copy: Copy, error: StoreError | None, over: list[Copy]) -> None:
        copy.busy -= 1
        copy.error = copy.error or error
        if copy.is_over:
            self._active.remove(copy)
            over.append(copy)

    def _close(self, copy: Copy) -> None:
        """End a file whose ranges have all ended: name it, begin it anew, or give it up."""
        try:
            proof, md5 = (Proof.WRONG, "")
            if copy.error is None:
                proof, md5 = prove(copy.part.part, copy.facts.size, copy.facts.etag)
                if proof is Proof.WRONG and md5 == copy.md5:
                    proof = Proof.UNKNOWN  # twice the same: this ETag is no MD5 of the bytes
            if proof is not Proof.WRONG:
                self._landing.land(copy.item, copy.facts, copy.part, proof.value)
                self.report.end(copy.item.path)
                self._vain = 0
                return
            if copy.error is not None and not isinstance(copy.error, ObjectChanged):
                copy.part.sync()
                self._fail(copy.item, copy.error)
                return
            copy.part.discard()
        finally:
            copy.part.close()
        self._guarded(copy.item, partial(self._begin_anew, copy, md5))

    def _begin_anew(self, copy: Copy, md5: str, item: Item) -> None:
        url = item.url
        if copy.attempt + 1 == _ATTEMPTS:
            raise copy.error or StoreError(f"{url}: its bytes do not agree with its ETag", url=url)
        if copy.error is not None:
            self._means.facts.forget(url)
        facts = self._ask(url)
        self._begin(item, facts, attempt=copy.attempt + 1, md5=md5)


class _Ticks:
    """Calls one function each time, and another one now and then."""

    def __init__(self, often: Callable[[], None], seldom: Callable[[], None]) -> None:
        self._often = often
        self._seldom = seldom
        self._next_s = time.monotonic() + _SAVE_EVERY_S

    def __call__(self) -> None:
        self._often()
        if time.monotonic() >= self._next_s:
            self._seldom()
            self._next_s = time.monotonic() + _SAVE_EVERY_S
