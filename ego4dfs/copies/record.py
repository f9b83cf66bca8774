"""The record of one complete copy, as the journal keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from ego4dfs.store import ObjectFacts


@dataclass(frozen=True, slots=True)
class Record:
    """A complete copy: the object version that it is, and how that was proved (`checksum`).

    `checked_s` is when S3 said last that this is the latest version, in seconds since the epoch.
    `set_mtime_ns` is the time of the file where that of the object could not be set, else 0.
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
        """The time that the file has if nobody changed it."""
        return self.set_mtime_ns or self.facts.mtime_ns


def is_same_time(one_ns: int, other_ns: int) -> bool:
    """Tell whether two times are the same to filesystems that keep them to two seconds."""
    return abs(one_ns - other_ns) < 2 * 10**9
