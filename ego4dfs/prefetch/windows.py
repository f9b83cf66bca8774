"""WindowPlanner: which bytes of which videos the windows of annotations need."""

from __future__ import annotations

import re
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ego4dfs.annotations import BadRow
from ego4dfs.annotations.rows import Row
from ego4dfs.blocks import join_ranges, whole_parts
from ego4dfs.catalog import Listing, Place, WindowFiles
from ego4dfs.media import MediaIndex, outside
from ego4dfs.prefetch.cache_warmer import CacheWarmer
from ego4dfs.prefetch.index_warmer import IndexWarmer
from ego4dfs.prefetch.plan import TO_FETCH, DatasetPlan, Item, Plan
from ego4dfs.prefetch.report import Report
from ego4dfs.prefetch.shard import Shard
from ego4dfs.session import Session

_BAD_ROWS_KEPT = 10_000
_DIGITS = re.compile(r"([0-9]{1,18})")
_IN_LIST = re.compile(r"(.*(?:(\[)| ))(0|[1-9][0-9]{0,17})(?(2)\])", re.DOTALL)
"""`name[3]` or `row 3`: the text before the number, which is as str(int) has it, in 64 bits."""
_NO_NUMBER = -1


@dataclass(slots=True)
class BadRows:
    """Rows of which no window is fetched: how many, and 10,000 of them. Thread-safe."""

    count: int = 0
    _kept: list[BadRow] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, row: BadRow) -> None:
        """Count a row."""
        with self._lock:
            self.count += 1
            if len(self._kept) < _BAD_ROWS_KEPT:
                self._kept.append(BadRow(row.row, row.reason))  # records may be large

    @property
    def rows(self) -> list[BadRow]:
        """The rows that are kept, without their records, in the order of their places."""
        with self._lock:
            return sorted(self._kept, key=_place)


def _place(row: BadRow) -> list[str | int]:
    """Return a key that sorts `row 2` before `row 10`: texts and numbers in turn."""
    parts = _DIGITS.split(row.row)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)]


class Windows:
    """The windows of one object, in 32 bytes each: an annotation may have millions.

    The place of a window in its file, such as `row 12` or `x.narrations[3]`, is kept as a number
    in a list, whose text the other windows of the list share.
    """

    def __init__(self) -> None:
        self._starts, self._ends = array("d"), array("d")
        self._lists: list[str] = []
        self._numbers = array("q")

    def add(self, place: Place) -> None:
        """Add a window."""
        self._starts.append(place.start_s)
        self._ends.append(place.end_s)
        found = _IN_LIST.fullmatch(place.row)
        self._lists.append(sys.intern(found[1] if found else place.row))
        self._numbers.append(int(found[3]) if found else _NO_NUMBER)

    def __iter__(self) -> Iterator[tuple[str, float, float]]:
        """Yield row, start and end of each."""
        for at, times in enumerate(zip(self._starts, self._ends, strict=True)):
            yield self._row(at), *times

    def valid(self, index: MediaIndex, bad: BadRows) -> list[tuple[float, float]]:
        """Return start and end of those inside a video; the others are bad rows."""
        found = []
        for at, (start_s, end_s) in enumerate(zip(self._starts, self._ends, strict=True)):
            reason = outside(index, start_s, end_s)
            if reason:
                bad.add(BadRow(self._row(at), reason))
            else:
                found.append((start_s, min(end_s, index.stop_s)))
        return found

    def _row(self, at: int) -> str:
        name, number = self._lists[at], self._numbers[at]
        if number == _NO_NUMBER:
            return name
        return f"{name}{number}]" if name.endswith("[") else f"{name}{number}"


@dataclass(slots=True)
class WindowPlan:
    """What windows need.

    There are `windows` of `videos`, with `seconds` in all; seconds of several windows count once.
    `window_bytes` are the bytes from the key frames before the windows to their last pictures.
    `plan` has these bytes and those of the indexes, in whole parts of the cache. `report` has the
    videos that cannot be used.
    """

    bad: BadRows
    unselected: int
    report: Report
    plan: Plan
    windows: int = 0
    seconds: float = 0.0
    window_bytes: int = 0
    has_ended: bool = True
    """Whether all threads that fetched indexes have ended."""

    @property
    def videos(self) -> int:
        """How many videos have windows."""
        return sum(1 for _ in self.plan.items)

    @property
    def video_bytes(self) -> int:
        """The bytes of the whole videos."""
        return sum(item.object_size for item in self.plan.items)


class WindowPlanner:
    """Makes the plan of one file of windows. Used from one thread.

    `on_facts` is called with the objects checked so far, and all; `tick` several times a second
    with the report, while indexes are fetched.
    """

    def __init__(
        self,
        session: Session,
        warmer: CacheWarmer,
        *,
        retry_for_s: float = 0.0,
        on_facts: Callable[[int, int], None] = lambda _done, _total: None,
        shard: Shard | None = None,
    ) -> None:
        """Plan for `warmer`, which fetches it afterwards; of a `shard` only its videos."""
        self._shard = shard
        self._session = session
        self._warmer = warmer
        self._on_facts = on_facts
        self._indexes = IndexWarmer(session, self._use, retry_for_s=retry_for_s)
        self._by_url: dict[str, Windows] = {}
        self._items: dict[str, Item] = {}
        self._lock = threading.Lock()  # guards _items and the sums of _found
        self._found = WindowPlan(BadRows(), 0, self._indexes.report, Plan(()))

    def plan(
        self,
        rows: Iterable[Row],
        listings: Sequence[Listing],
        tick: Callable[[Report], None] = lambda _: None,
    ) -> WindowPlan:
        """Fetch the indexes of the videos that have windows, and return what these need.

        Raises what `rows` raises, and what `CacheWarmer.plan` does. If the run ended early,
        `report.stopped_by` of the result says why, and its plan is empty.
        """
        self._collect(rows, WindowFiles(self._session.catalog, listings))
        wanted = self._with_windows(listings)
        whole = self._warmer.plan(
            wanted, on_facts=self._on_facts, facts_only=True, shard=self._shard
        )
        report = self._indexes.report
        self._found.has_ended = self._indexes.run(whole, lambda: tick(report))
        if self._found.has_ended and report.stopped_by is None:
            self._found.plan = self._narrowed(whole)
            self._by_url.clear()  # of videos without an index
        return self._found

    def _with_windows(self, listings: Sequence[Listing]) -> list[Listing]:
        """Return the listings with the videos that have windows; one listed twice is there once."""
        left, found = set(self._by_url), []
        for one in listings:
            entries = {entry.url: entry for entry in one.entries if entry.url in left}
            found.append(replace(one, entries=list(entries.values())))
            left -= entries.keys()
        return found

    def _narrowed(self, whole: Plan) -> Plan:
        """Return what the windows need of a plan of whole videos; no thread runs any more."""
        datasets = [
            DatasetPlan(
                d.dataset, d.rows, [self._items[i.path] for i in d.items if i.path in self._items]
            )
            for d in whole.datasets
        ]
        cached = sum(
            self._warmer.cached_bytes(item)
            for item in self._items.values()
            if item.state in TO_FETCH
        )
        return Plan(datasets, partial_bytes=cached, share=whole.share)

    def _collect(self, rows: Iterable[Row], files: WindowFiles) -> None:
        for row in rows:
            places = row if isinstance(row, BadRow) else files.places(row)
            if isinstance(places, BadRow):
                self._found.bad.add(places)
                continue
            self._found.unselected += not places
            for place in places:
                self._by_url.setdefault(place.url, Windows()).add(place)

    def _use(self, item: Item, index: MediaIndex, index_ranges: tuple[range, ...]) -> None:
        windows = self._by_url.pop(item.url).valid(index, self._found.bad)  # frees their memory
        if not windows:
            return
        seconds, groups = _union(index, windows)
        ranges = whole_parts([*groups, *index_ranges], index.size)
        narrowed = self._warmer.narrowed(item, ranges)
        with self._lock:
            self._items[item.path] = narrowed
            self._found.windows += len(windows)
            self._found.seconds += seconds
            self._found.window_bytes += sum(map(len, groups))


def _union(index: MediaIndex, windows: list[tuple[float, float]]) -> tuple[float, list[range]]:
    """Return how many seconds windows have together, and the bytes that they need."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted(windows):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end_s, joined[-1][1]))
        else:
            joined.append((start_s, end_s))
    ranges = [part for window in joined for part in index.byte_ranges(*window)]
    return sum(end_s - start_s for start_s, end_s in joined), join_ranges(ranges)
