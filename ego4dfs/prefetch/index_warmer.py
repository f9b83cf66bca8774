"""IndexWarmer: the heads and indexes of videos are fetched into the cache, many at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from ego4dfs.blocks import total_bytes, whole_parts
from ego4dfs.cache import PIN_SHARE
from ego4dfs.copies import State
from ego4dfs.errors import CacheError, MediaError, ObjectChanged, StoreError
from ego4dfs.media import MediaIndex, read_index
from ego4dfs.prefetch.cache_run import CacheRun
from ego4dfs.prefetch.plan import Item, Plan
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.prefetch.worker_pool import Task
from ego4dfs.reader import ExactWindow, Reader
from ego4dfs.session import Session

Use = Callable[[Item, MediaIndex, tuple[range, ...]], None]
"""Gets a video, its index, and the bytes that were read to find it, in whole parts."""


class IndexTotals:
    """Sums over videos. Safe from several threads; `_lock` guards all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._videos = self._index_bytes = self._video_bytes = 0

    def add(self, _: Item, index: MediaIndex, ranges: Sequence[range]) -> None:
        """Count a video, and the bytes that were read for its index."""
        with self._lock:
            self._videos += 1
            self._index_bytes += sum(map(len, ranges))
            self._video_bytes += index.size

    def document(self) -> dict[str, int]:
        """Return the sums for programs."""
        with self._lock:
            return {
                "videos": self._videos,
                "index_bytes": self._index_bytes,
                "video_bytes": self._video_bytes,
            }


class IndexWarmer:
    """Fetches what `read_index` reads of each video, and hands the index to a function.

    Make one for each run; its own threads are the only ones that may share it. `_lock` guards
    `_room`.
    """

    def __init__(self, session: Session, use: Use, *, retry_for_s: float = 0.0) -> None:
        """Fetch with the store, reader and cache of `session`; several threads call `use`."""
        self._run = CacheRun(session, retry_for_s)
        self._use = use
        self._reader = session.reader
        self._facts = session.facts
        self._admin = session.cache.admin
        self._lock = threading.Lock()
        self._room = 0
        self._pinned: frozenset[str] = frozenset()  # before the run

    @property
    def report(self) -> Report:
        """What the run has done so far."""
        return self._run.report

    def run(
        self, plan: Plan, tick: Callable[[], None] = lambda: None, *, pin: bool = False
    ) -> bool:
        """Fetch the indexes of the videos of a plan, and with `pin` protect them from eviction.

        A video without a usable index fails, and the others go on; see CacheRun for `tick` and the
        result. A CacheError stops the run if the cache has no room for more.
        """
        share = int(self._admin.max_bytes * PIN_SHARE)
        self._room = self._admin.bytes_left_to_pin if pin else share
        self._pinned = self._admin.pinned_keys() if pin else frozenset()
        self.report.files, self.report.share = plan.count(*State), plan.share
        self.report.leave_out(plan)
        found = [item for item in plan.items if item.facts is not None]
        tasks: list[Task] = [partial(self._fetch, item, pin=pin) for item in reversed(found)]
        return self._run.run(lambda: tasks.pop() if tasks else None, tick)

    def _fetch(self, item: Item, *, pin: bool) -> None:
        reads = _Reads(self._run, self._reader, item)
        try:
            index = read_index(reads.ref.size, reads.read)
        except MediaError as error:
            self._run.fail(item, MediaError(f"it has no usable index: {error}"))
            return
        except StoreError as error:
            if isinstance(error, ObjectChanged):
                self._facts.correct(item.url, error)  # the next run plans with the right facts
            self._run.fail(item, error)
            return
        self._facts.media.record(item.url, reads.ref.size, reads.ref.etag, index)
        ranges = whole_parts(reads.ranges, reads.ref.size)
        self._take_room(self._run.bytes_to_keep(reads.ref, ranges, self._pinned))
        if pin:
            self._admin.pin(reads.ref.object_id, self._run.keys(reads.ref, ranges))
        self._use(item, index, ranges)
        self.report.done(Status.DONE if reads.fetched_bytes else Status.SKIPPED)

    def _take_room(self, needed: int) -> None:
        with self._lock:
            self._room -= needed
            is_full = self._room < 0
        if is_full:
            raise CacheError(
                "the cache has no room for the indexes of more videos",
                hint="select less, or set a larger --cache-size",
            )


class _Reads:
    """Reads of one object, whose bytes are in the cache afterwards."""

    def __init__(self, run: CacheRun, reader: Reader, item: Item) -> None:
        self._run, self._reader, self._item = run, reader, item
        self.ref = run.ref(item)
        self.ranges: list[range] = []
        self.fetched_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of [offset, offset + length). Raises StoreError."""
        wanted = range(offset, offset + length)
        self.ranges.append(wanted)
        for request in self._run.missing(self.ref, whole_parts([wanted], self.ref.size)):
            fetched = self._run.fetch(self.ref, request)
            self.fetched_bytes += fetched
            cached = total_bytes(request) - fetched
            self._run.report.moved(self._item.path, fetched=fetched, cached=cached)
        buffer = bytearray(length)
        count = self._reader.read_into(self.ref, offset, memoryview(buffer), ExactWindow())
        return bytes(buffer[:count])
