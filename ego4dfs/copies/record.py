"""The record of one complete copy, as the journal keeps it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ego4dfs.store import ObjectFacts

_SECOND_NS = 10**9


@dataclass(frozen=True, slots=True)
class Record:
    """A complete copy: the object version that it is, and how that was proved (`checksum`).

    `checked_s` is when S3 last confirmed that this is the latest version, in seconds since the
    epoch. `set_mtime_ns` is the mtime of the file if the object's could not be set, else 0.
    """

    url: str
    source: str
    release: str
    facts: ObjectFacts
    checksum: str
    checked_s: float = 0.0
    set_mtime_ns: int = 0

    @property
    def file_mtime_ns(self) -> int:
        """The mtime of the file while it is unchanged."""
        return self.set_mtime_ns or self.facts.mtime_ns


def is_same_time(file_ns: int, recorded_ns: int) -> bool:
    """Return whether a file has a recorded time, at the resolution of its filesystem.

    A time in whole seconds may come from FAT, whose resolution is two seconds. Other times are
    compared up to their last digit that is not zero, so an edit within the same second counts.
    """
    return abs(file_ns - recorded_ns) < _resolution_ns(file_ns)


def _resolution_ns(time_ns: int) -> int:
    if time_ns % _SECOND_NS == 0:
        return 2 * _SECOND_NS
    resolution_ns = 1
    while time_ns % (10 * resolution_ns) == 0:
        resolution_ns *= 10
    return resolution_ns


def record_of_row(row: Sequence[Any]) -> Record:
    """Return the record of a row; records share equal strings, because there are many."""
    source, release, checksum = map(sys.intern, row[2:5])
    return Record(row[1], source, release, ObjectFacts(*row[7:]), checksum, row[5], row[6])
