"""Fetcher: downloads the objects of a plan in parallel; most errors fail one file, not the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from ego4dfs.copies import Journal, Layout, State
from ego4dfs.copies.checksum import compare_bytes, compare_file
from ego4dfs.copies.etag_trust import RecordedBucketEtags
from ego4dfs.errors import (
    CredentialsRejected,
    ObjectChanged,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.files import Folders
from ego4dfs.prefetch.commit import Committer
from ego4dfs.prefetch.disk_errors import DiskErrors, is_of_own_disk
from ego4dfs.prefetch.disk_space import check_room
from ego4dfs.prefetch.etag_check import ATTEMPTS, EtagChecker
from ego4dfs.prefetch.failure_limit import FailureLimit
from ego4dfs.prefetch.finalize import Finalizer, closing
from ego4dfs.prefetch.outage import Outage, OutageTooLong
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.prefetch.plan import COMPLETE, SMALL_BYTES, TO_FETCH, Item, Plan
from ego4dfs.prefetch.ranged_download import Download, RangeFetcher, Stopped
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.small_files import SmallFileReader
from ego4dfs.prefetch.worker_pool import Task, Ticks, WorkerPool
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Comparison, compare

JOBS = 8
SMALL_JOBS_PER_JOB = 4

_SAVE_EVERY_S = 15.0
_END_S = 0.5
_DRAIN_S = 30.0
_GIVE_UP_AFTER_FILES = 16
_FILES_PER_CHECK = 32
"""Files of unknown size that are begun between two checks of the room on the disk."""


class Fetcher:
    """Carries out one plan.

    Every file ends as done, skipped, refused, missing or failed in `report`. What stops the whole
    run, a rejected key or a full disk, is `report.stopped_by`: then the next run resumes the files
    that are not counted.
    """

    def __init__(
        self,
        session: Session,
        layout: Layout,
        journal: Journal,
        plan: Plan,
        *,
        jobs: int = JOBS,
        retry_for_s: float = 0.0,
        unwritable: Mapping[str, OSError] = MappingProxyType({}),
    ) -> None:
        """Prepare a run that fetches `jobs` ranges of large files at once.

        During an outage of the store, requests are retried for `retry_for_s`. The files of datasets
        whose directories are `unwritable` count as failed.
        """
        self.report = Report(plan.count(*State), share=plan.share)
        self.report.leave_out(plan, unwritable)
        plan = replace(plan, datasets=[d for d in plan.datasets if d.dataset not in unwritable])
        self._sized_bytes = plan.bytes(*TO_FETCH)
        self._sizes = {d.dataset: d.expected_sizes() for d in plan.datasets}
        self._count_bytes()
        self._session = session
        self._layout, self._journal, self._plan = layout, journal, plan
        self._small_jobs = jobs * SMALL_JOBS_PER_JOB
        self._pool = WorkerPool(self._stop)
        self.report.outage = Outage(retry_for_s, self._pool.stopping)
        self._evidence = RecordedBucketEtags(journal, session.store.source)
        checker = EtagChecker(session.store, session.cache, self._evidence)
        self._folders = Folders(layout.root)
        self._data_names = frozenset(i.path for i in plan.items if i.name.endswith(".part"))
        origin = {"source": session.store.source, "release": session.catalog.version}
        self._committer = Committer(
            layout, self._folders, journal, self.report, self._is_data, **origin
        )
        self._ranges = RangeFetcher(session.store, session.cache, self.report, self._pool)
        self._small_files = SmallFileReader(
            session, self._ranges, self.report, self._pool, self._sizes
        )
        self._active: list[Download] = []
        self._disk_errors = DiskErrors(layout.root)
        self._unwritable: dict[str, OSError] = {}  # directories on disks that failed meanwhile
        self._finalizer = Finalizer(self._committer, checker, self._completed)
        self._small = self._items(is_small=True)
        self._large = self._items(is_small=False)
        self._failure_limit = FailureLimit(_GIVE_UP_AFTER_FILES)
        self._pool.add("small", self._take_small, self._small_jobs)
        self._pool.add("range", self._take_range, jobs)

    def run(self, tick: Callable[[], None] = lambda: None) -> bool:
        """Fetch the files of the plan, calling `tick` several times a second from this thread.

        Returns whether all threads have ended; if not, some wait for answers that are no longer
        wanted. KeyboardInterrupt ends the run in order, and is then `report.stopped_by`.
        """
        try:
            self._committer.adopt_all(item for item in self._plan.items if item.state in COMPLETE)
            self._pool.run(Ticks(partial(self._show, tick), self._committer.flush, _SAVE_EVERY_S))
        except (KeyboardInterrupt, OSError) as error:
            self._stop(error)
        return self._end()

    def _show(self, tick: Callable[[], None]) -> None:
        self._count_bytes()
        tick()

    def _count_bytes(self) -> None:
        """Sum up the bytes to fetch: more and more sizes are known."""
        sizes = self._sizes.values()
        self.report.total_bytes = self._sized_bytes + sum(one.learnt_bytes for one in sizes)
        self.report.expected_bytes = sum(one.expected_bytes for one in sizes)

    def _end(self) -> bool:
        self._pool.stop()
        try:
            # Requests that run when a key expires were sent with a valid key: let them complete.
            ended = self._pool.ended(_END_S if self._pool.abandoned.is_set() else _DRAIN_S)
        except KeyboardInterrupt as error:
            self._stop(error)
            ended = self._pool.ended(_END_S)
        try:
            if ended:
                self._finalizer.end(self._fail, is_stopped=self.report.stopped_by is not None)
            self._committer.flush()
        except (StoreError, OSError) as error:
            self._stop(error)
        if ended:
            for download in self._active:
                download.part.close()
            self._folders.close()
        self.report.arrange(item.path for item in self._plan.items)
        return ended

    def _stop(self, error: BaseException) -> None:
        if not isinstance(error, (StoreError, Stopped)):
            self._pool.abandoned.set()
        if not isinstance(error, Stopped):
            self.report.stop(error)

    def _items(self, *, is_small: bool) -> Iterator[Item]:
        wanted = (item for item in self._plan.items if item.state in TO_FETCH)
        return (item for item in wanted if (item.size <= SMALL_BYTES) == is_small)

    def _take_small(self) -> Task | None:
        if len(self._active) >= self._small_jobs:  # most have turned out to be large
            return None
        item = next(self._small, None)
        return partial(self._guarded, item, self._fetch_small) if item else None

    def _take_range(self) -> Task | None:
        for download in self._active:
            if download.todo and download.error is None:
                start, stop = download.take(self._ranges.range_bytes)
                return partial(self._fetch_range, download, start, stop)
        item = next(self._large, None)
        return partial(self._guarded, item, self._open) if item else None

    def _guarded(self, item: Item, work: Callable[[Item], None]) -> None:
        try:
            work(item)
        except (StoreError, OSError) as error:
            self._fail(item, error)

    def _fail(self, item: Item, error: StoreError | OSError) -> None:
        """Count a file as failed; raise an error that affects all files."""
        self.report.end(item.path)
        if isinstance(error, (CredentialsRejected, OutageTooLong)):
            raise error
        if isinstance(error, StoreUnavailable) and self._pool.stopping.is_set():
            raise Stopped from error  # the run ends, and the next one resumes the file
        root = self._layout.root
        if isinstance(error, OSError) and is_of_own_disk(error, root / item.directory, root):
            self._unwritable[item.directory] = error
        elif isinstance(error, OSError) and self._disk_errors.affects_all(error):
            raise error
        if isinstance(error, StoreUnavailable) and self._failure_limit.failed():
            raise error
        self.report.give_up(item, error)

    def _completed(self) -> None:
        self._failure_limit.succeeded()
        self._disk_errors.reset()

    def _is_right(self, item: Item) -> bool:
        """Return whether the existing file is the object; record it if so."""
        path = self._layout.root / item.path
        facts = item.facts or self._ask(item.url)
        try:
            if path.stat().st_size != facts.size:
                return False
            found = compare_file(path, facts.size, facts.etag)
        except OSError:
            return False  # missing or not readable: it is fetched
        self._evidence.note(item.url, found)
        proof = self._evidence.proof(item.url, facts.size, facts.etag, found)
        if proof.counts_as_wrong(size_suffices=item.size_suffices):
            return False
        self._committer.adopt(item, facts, proof.value)
        return True

    def _check_disk(self, item: Item) -> None:
        """Raise an earlier error of this directory's disk again, before anything is fetched."""
        known = self._unwritable.get(item.directory)
        if known is not None:
            raise OSError(known.errno, known.strerror, str(self._layout.root / item.directory))

    def _check_room(self, item: Item) -> None:
        """Raise an error if the files of unknown size are not expected to fit on their disk."""
        sizes = self._sizes[item.dataset]
        if sizes.begin() % _FILES_PER_CHECK == 0 and self._plan.is_sampled:
            check_room(self._layout, item.directory, sizes.expected_bytes)

    def _fetch_small(self, item: Item) -> None:
        self._check_disk(item)
        if item.facts is None:
            self._check_room(item)
        if item.state is not State.CHECK or not self._is_right(item):
            self._read_whole(item)

    def _open(self, item: Item) -> None:
        self._check_disk(item)
        if item.state is not State.CHECK or not self._is_right(item):
            self._begin(item, item.facts or self._ask(item.url))

    def _read_whole(self, item: Item, *, attempt: int = 0, found: str = "") -> None:
        """Fetch a file that is small, or whose size is unknown, with one request."""
        try:
            data, facts = self._small_files.read(item, past_cache=attempt > 0)
        except ObjectChanged as error:
            self._fetch_again(item, error, attempt=attempt, found=found)
            return
        if len(data) < facts.size:
            self._begin(item, facts, head=data, attempt=attempt, found=found)
            return
        with closing(self._part(item, facts, is_filled=True)) as part:
            part.fill(data)
            download = Download.of(item, facts, part, attempt, found)
            self._complete(download, compare_bytes(data, facts.etag))

    def _ask(self, url: str) -> ObjectFacts:
        return self.report.outage.attempt(lambda: self._session.facts.get(url))

    def _part(self, item: Item, facts: ObjectFacts, *, is_filled: bool = False) -> PartFile:
        folder, _ = self._folders.split(item.path)
        return PartFile(
            folder,
            item.path,
            item.url,
            facts,
            self._journal,
            is_data=self._is_data,
            is_filled=is_filled,
        )

    def _is_data(self, path: str) -> bool:
        """Return whether a path is the name of a download, with any suffix."""
        return path in self._data_names or self._journal.is_complete(path)

    def _begin(
        self,
        item: Item,
        facts: ObjectFacts,
        *,
        head: memoryview | None = None,
        attempt: int = 0,
        found: str = "",
    ) -> None:
        """Resume or start a large file; `head` are bytes that were fetched already."""
        self._small_files.note(item, facts)
        part = self._part(item, facts)
        if head is not None and part.missing == [(0, facts.size)]:
            part.write(0, 0, head)
            part.missing = [(len(head), facts.size)]
        download = Download.of(item, facts, part, attempt, found)
        self.report.begin(item.path, facts.size)
        missing = sum(stop - start for start, stop in part.missing)
        self.report.moved(item.path, resumed=facts.size - missing - len(head or b""))
        if download.todo:
            self._pool.update(partial(self._active.append, download))
        else:
            self._close(download)

    def _fetch_range(self, download: Download, start: int, stop: int) -> None:
        error: StoreError | OSError | None = None
        try:
            self._ranges.fetch(download, start, stop)
        except (StoreError, OSError) as raised:
            error = raised
        over: list[Download] = []
        self._pool.update(partial(self._range_ended, download, error, over))
        if over:
            self._guarded(download.item, lambda _: self._close(download))

    def _range_ended(
        self, download: Download, error: StoreError | OSError | None, over: list[Download]
    ) -> None:
        download.busy -= 1
        download.error = download.error or error
        if download.is_over:
            self._active.remove(download)
            over.append(download)

    def _close(self, download: Download) -> None:
        """End a file whose ranges have all ended."""
        error = download.error
        with closing(download.part):
            if error is None:
                found = compare(download.part.chunks, download.facts.size, download.facts.etag)
                self._complete(download, found)
            elif isinstance(error, ObjectChanged):
                download.part.discard()
                self._fetch_again(download.item, error, attempt=download.attempt, found="")
            else:
                if isinstance(error, StoreError):
                    download.part.sync()
                raise error

    def _complete(self, download: Download, found: Comparison) -> None:
        self.report.end(download.item.path)
        facts = download.facts
        self._session.facts.confirm(download.item.url, facts.size, facts.etag)
        error = self._finalizer.complete(download, found)
        if error is not None:
            self._fetch_again(download.item, error, attempt=download.attempt, found=found.found)

    def _fetch_again(self, item: Item, error: StoreError, *, attempt: int, found: str) -> None:
        """Fetch a file from its start, unless there were too many attempts."""
        if attempt + 1 == ATTEMPTS:
            raise error
        if isinstance(error, ObjectChanged):
            self._session.facts.correct(item.url, error)
            item = replace(item, facts=None)
        if item.size <= SMALL_BYTES:
            self._read_whole(item, attempt=attempt + 1, found=found)
        else:
            facts = item.facts or self._ask(item.url)
            self._begin(item, facts, attempt=attempt + 1, found=found)
