"""The result of a prefetch: counts, and each file that failed with the reason."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ego4dfs.copies import State, unusable
from ego4dfs.errors import AccessDenied, Ego4DError, ObjectMissing
from ego4dfs.prefetch.disk_errors import reason_of
from ego4dfs.prefetch.outage import Outage
from ego4dfs.prefetch.plan import COMPLETE, UNAVAILABLE, Item, Plan, Share

_NONE: Mapping[str, OSError] = MappingProxyType({})


class Status(enum.Enum):
    """The outcome of one file."""

    DONE = "done"
    SKIPPED = "skipped"
    REFUSED = "refused"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """One file that is not right on disk, and why."""

    path: str
    uid: str
    status: Status
    reason: str

    @property
    def dataset(self) -> str:
        """The dataset of the file; empty for ego4d.json."""
        return "/".join(self.path.split("/")[1:-1])

    @property
    def name(self) -> str:
        """The name of the file in its directory."""
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class NodeReport:
    """What one node of a cluster has done, and the error that ended it early, if any."""

    name: str
    files: int = 0
    counts: Counter[Status] = field(default_factory=Counter)
    fetched_bytes: int = 0
    cached_bytes: int = 0
    resumed_bytes: int = 0
    error: BaseException | None = None


@dataclass(slots=True)
class Report:
    """Files by status, transferred bytes, and the error that ended the run early, if any.

    Safe from several threads; `_lock` guards all of it. `active` are the large files in progress,
    as path -> [bytes done, bytes in all]. `refused` are datasets without a manifest. `outage` says
    whether the store answers. `expected_bytes` are those of files of unknown size, beside
    `total_bytes`. `share` is the part of the selection that is fetched, if not all.
    `nodes` are those of a cluster that each fetch all of it; the counts are their sums.
    """

    files: int = 0
    total_bytes: int = 0
    expected_bytes: int = 0
    counts: Counter[Status] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    fetched_bytes: int = 0
    cached_bytes: int = 0
    resumed_bytes: int = 0
    stopped_by: BaseException | None = None
    refused: dict[str, Ego4DError] = field(default_factory=dict)
    active: dict[str, list[int]] = field(default_factory=dict)
    outage: Outage = field(default_factory=Outage)
    share: Share | None = None
    nodes: list[NodeReport] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, status: Status = Status.DONE, count: int = 1) -> None:
        """Count files that are right."""
        with self._lock:
            self.counts[status] += count

    def _problem(self, path: str, uid: str, status: Status, reason: str) -> None:
        """Count a file that is not right, and record the reason."""
        with self._lock:
            self.counts[status] += 1
            self.problems.append(Problem(path, uid, status, reason))

    def give_up(self, item: Item, error: Ego4DError | OSError) -> None:
        """Count a file that failed, with the error of the store, the disk or the file."""
        status = Status.FAILED
        if isinstance(error, (ObjectMissing, AccessDenied)):
            status = Status.MISSING if isinstance(error, ObjectMissing) else Status.REFUSED
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        self._problem(item.path, item.uid, status, reason)

    def not_written(self, path: str, error: OSError) -> None:
        """Count a file that belongs to no row of a plan and could not be written."""
        self._problem(path, "", Status.FAILED, reason_of(error))

    def leave_out(self, plan: Plan, unwritable: Mapping[str, OSError] = _NONE) -> None:
        """Count the files that need no attempt: unavailable, or in an unwritable directory."""
        for item in plan.items:
            error = unwritable.get(item.dataset) if item.dataset else None
            if item.state in UNAVAILABLE:
                status = Status.MISSING if item.state is State.MISSING else Status.REFUSED
                self._problem(item.path, item.uid, status, item.reason)
            elif error is not None and item.state in COMPLETE:
                self.done(Status.SKIPPED)
            elif error is not None:  # of the directory, and not of this file
                reason = f"cannot be written: {unusable(error, Path(item.directory))}"
                self._problem(item.path, item.uid, Status.FAILED, reason)

    def include(self, earlier: Report) -> None:
        """Count what an earlier part of this run gave up, and what it fetched."""
        with self._lock:
            self.files += len(earlier.problems)
            self.problems += earlier.problems
            self.counts.update(problem.status for problem in earlier.problems)
            self.refused.update(earlier.refused)
            self.fetched_bytes += earlier.fetched_bytes
            # It was found in the cache since then.
            self.resumed_bytes = max(0, self.resumed_bytes - earlier.fetched_bytes)

    def arrange(self, paths: Iterable[str]) -> None:
        """Put the problems in the order of these paths: first the objects that are not on S3."""
        with self._lock:
            if self.problems:
                places = {path: place for place, path in enumerate(paths)}
                self.problems.sort(
                    key=lambda one: (one.status is Status.FAILED, places.get(one.path, -1))
                )

    def moved(self, path: str, *, fetched: int = 0, cached: int = 0, resumed: int = 0) -> None:
        """Count bytes from the store, from the cache, or from an earlier run."""
        with self._lock:
            self.fetched_bytes += fetched
            self.cached_bytes += cached
            self.resumed_bytes += resumed
            if path in self.active:
                self.active[path][0] += fetched + cached + resumed

    def begin(self, path: str, size: int) -> None:
        """Show a large file as running."""
        with self._lock:
            self.active[path] = [0, size]

    def end(self, path: str) -> None:
        """Stop showing a large file."""
        with self._lock:
            self.active.pop(path, None)

    def stop(self, error: BaseException) -> None:
        """Record what ends the run; the first error counts."""
        with self._lock:
            if self.stopped_by is None:
                self.stopped_by = error

    @property
    def moved_bytes(self) -> int:
        """Bytes of the plan that are done: fetched, from the cache, or from an earlier run."""
        return self.fetched_bytes + self.cached_bytes + self.resumed_bytes

    @property
    def finished(self) -> int:
        """Files that are right."""
        return self.counts[Status.DONE] + self.counts[Status.SKIPPED]

    def under_way(self) -> dict[str, tuple[int, int]]:
        """Return the large files in progress, as path -> (bytes done, bytes in all)."""
        with self._lock:
            return {path: (done, size) for path, (done, size) in self.active.items()}
