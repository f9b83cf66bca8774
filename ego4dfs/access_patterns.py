"""How programs read files: as a whole, in sequence, in windows or at random, by dataset."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

Pattern = Literal["whole files", "sequential", "windows", "random"]
PATTERNS: Final[tuple[Pattern, ...]] = get_args(Pattern)

MAX_DATASETS: Final = 64
OTHER: Final = "other"
"""What is counted as one dataset when there are more than MAX_DATASETS."""

_BACKWARD, _FORWARD = 2 << 20, 1 << 20
"""Steps that are no seek: kernels read ahead, by several requests at a time."""
_WHOLE_SHARE = 0.9
_MAX_WHOLE_RUNS = 3  # a reader of a video may look at its index first
_WINDOW_BYTES = 128 << 10  # shorter runs on average are reads at random


class FileReads:
    """The reads of one open file. Reads at the same moment may be counted as one."""

    __slots__ = ("_next", "dataset", "runs", "size", "size_read")

    def __init__(self, path: str, size: int) -> None:
        """Begin with none; `path` is that in the tree."""
        self.dataset = dataset_of(path)
        self.size = size
        self.size_read = self.runs = 0
        self._next = -_FORWARD - 1

    def add(self, offset: int, count: int) -> None:
        """Count one read."""
        stop = offset + count
        if self._next - _BACKWARD <= offset <= self._next + _FORWARD and self.runs:
            self._next = max(self._next, stop)
        else:
            self.runs += 1
            self._next = stop
        self.size_read += count

    @property
    def pattern(self) -> Pattern:
        """What the reads so far look like; those of a virtual clip are a window."""
        if self.dataset.startswith("."):
            return "windows"
        if self.size_read >= _WHOLE_SHARE * self.size and self.runs <= _MAX_WHOLE_RUNS:
            return "whole files"
        if self.runs == 1:
            return "sequential"
        return "windows" if self.size_read >= _WINDOW_BYTES * self.runs else "random"


@dataclass(slots=True)
class _Total:
    opens: int = 0
    bytes: int = 0

    def add(self, reads: FileReads) -> None:
        self.opens += 1
        self.bytes += reads.size_read


class AccessPatterns:
    """The open files of a mount, and totals of those that were closed.

    Files of which nothing was read do not count. Safe from several threads; `read` takes no lock.
    """

    def __init__(self) -> None:
        """Begin with no file."""
        self._lock = threading.Lock()
        self._open: dict[int, FileReads] = {}
        self._closed: dict[str, dict[Pattern, _Total]] = {}

    def opened(self, number: int, path: str, size: int) -> None:
        """Begin to count the reads of an open file by its number."""
        with self._lock:
            self._open[number] = FileReads(path, size)

    def read(self, number: int, offset: int, count: int) -> None:
        """Count one read; nothing if the file is not open."""
        reads = self._open.get(number)
        if reads is not None and count:
            reads.add(offset, count)

    def closed(self, number: int) -> None:
        """Add the reads of a file to the totals."""
        with self._lock:
            reads = self._open.pop(number, None)
            if reads is not None:
                _add(self._closed, reads)

    def snapshot(self) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
        """Return `opens` and `bytes` by dataset and pattern, with the files that are open now."""
        with self._lock:
            found = {
                dataset: {name: _Total(one.opens, one.bytes) for name, one in totals.items()}
                for dataset, totals in self._closed.items()
            }
            for reads in self._open.values():
                _add(found, reads)
        return {
            dataset: {
                name: {"opens": one.opens, "bytes": one.bytes} for name, one in totals.items()
            }
            for dataset, totals in found.items()
        }


def _add(totals: dict[str, dict[Pattern, _Total]], reads: FileReads) -> None:
    if not reads.size_read:
        return
    known = reads.dataset in totals or len(totals) < MAX_DATASETS
    of_dataset = totals.setdefault(reads.dataset if known else OTHER, {})
    of_dataset.setdefault(reads.pattern, _Total()).add(reads)


def dataset_of(path: str) -> str:
    """Return the dataset of a path in the tree; of a window `.ego4dfs/windows`."""
    names = path.strip("/").split("/")
    if names[0].startswith("."):
        return "/".join(names[:2])
    if names[-1] == "manifest.csv":
        return names[-1]
    return "/".join(names[1:-1]) or names[-1]
