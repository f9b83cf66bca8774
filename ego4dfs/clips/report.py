"""ClipReport: what a run has written, what it left out, and why."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ego4dfs.errors import Ego4DError
from ego4dfs.prefetch import Outage
from ego4dfs.prefetch.windows import BadRows


class Written(NamedTuple):
    """A file that was written: the seconds [start_s, end_s) of the video at a path of the tree."""

    file: Path
    video: str
    start_s: float
    end_s: float
    seconds: float
    size: int


class Failure(NamedTuple):
    """A video or a file, the error, and how many clips are missing because of it."""

    path: str
    error: Ego4DError
    clips: int

    @property
    def reason(self) -> str:
        """The error without the path that it begins with."""
        text = str(self.error).removeprefix(f"{self.path}: ")
        rest = text.removeprefix(f"{self.path} ")
        return text if rest == text else f"it {rest}"


@dataclass(slots=True)
class ClipReport:
    """The state of a run. Safe from several threads; `_lock` guards all that threads change.

    There are `windows`, with `seconds` in all. `existing` were there before, `duplicates` have the
    name of another one, and `unselected` are in videos that are not selected. `stopped_by` is what
    ended the run early.
    """

    outage: Outage
    windows: int = 0
    seconds: float = 0.0
    unselected: int = 0
    existing: int = 0
    duplicates: int = 0
    bad: BadRows = field(default_factory=BadRows)
    written: list[Written] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stopped_by: BaseException | None = None
    _ended_s: float = 0.0
    _active: dict[Path, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def skip(self, lengths_s: float, *, existing: int = 0, duplicates: int = 0) -> None:
        """Count windows that need no clip or can have none, with their seconds."""
        with self._lock:
            self.existing += existing
            self.duplicates += duplicates
            self._ended_s += lengths_s

    def advance(self, file: Path, seconds: float) -> None:
        """Record how many seconds of a clip are done."""
        with self._lock:
            self._active[file] = seconds

    def done(self, written: Written) -> None:
        """Count a clip that was written."""
        with self._lock:
            self._active.pop(written.file, None)
            self.written.append(written)
            self._ended_s += written.end_s - written.start_s

    def fail(self, failure: Failure, lengths_s: float, file: Path | None = None) -> None:
        """Count clips that cannot be written, with their seconds."""
        with self._lock:
            if file is not None:
                self._active.pop(file, None)
            self.failures.append(failure)
            self._ended_s += lengths_s

    def stop(self, error: BaseException) -> None:
        """Record what ends the run; the first error counts."""
        with self._lock:
            if self.stopped_by is None:
                self.stopped_by = error

    @property
    def done_s(self) -> float:
        """The seconds of all windows that are done, with those of clips in progress."""
        with self._lock:
            return self._ended_s + sum(self._active.values())

    @property
    def done_windows(self) -> int:
        """How many windows have their file: written by this run or earlier."""
        return len(self.written) + self.existing + self.duplicates

    @property
    def failures_by_path(self) -> list[Failure]:
        """The failures, in the order of their paths."""
        return sorted(self.failures, key=lambda failure: failure.path)

    @property
    def failed(self) -> int:
        """How many clips are missing because of failures."""
        return sum(failure.clips for failure in self.failures)

    @property
    def written_bytes(self) -> int:
        """The bytes of all files that were written."""
        return sum(one.size for one in self.written)
