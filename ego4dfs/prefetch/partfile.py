"""One copy under way: `<name>.part`, filled range by range, then given its name at once."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from ego4dfs.prefetch.journal import Begun, Journal
from ego4dfs.store import ObjectFacts

SYNC_EVERY_BYTES = 256 << 20
"""How much a power cut may cost of one file."""


_OURS = ".ego4dfs.part"
_MAX_NAME_BYTES = 255


class PartFile:
    """The bytes of one object version as far as they are here, and what is missing.

    Safe from several threads, each of which writes ranges of its own. `_lock` guards the list of
    what was written but not synced; it is never held over I/O. Raises OSError.
    """

    def __init__(
        self, path: Path, key: str, url: str, facts: ObjectFacts, journal: Journal
    ) -> None:
        """Go on with what the journal knows of this version, else begin anew.

        `path` is the name that the copy will have, `key` its name in the journal.
        """
        self.path = path
        self._key = key
        self._journal = journal
        self._lock = threading.Lock()
        self._unsynced: dict[int, int] = {}
        self._unsynced_bytes = 0
        begun = journal.begun(key)
        fits = begun is not None and (begun.url, begun.etag, begun.size) == (
            url,
            facts.etag,
            facts.size,
        )
        name = begun.part_name if begun else _free_name(path)
        self.part = path.with_name(name)
        self.missing = _gaps(begun, facts.size, self.part) if begun and fits else [(0, facts.size)]
        if not fits or self.missing == [(0, facts.size)]:
            journal.begin(key, url, facts, name)
            self.missing = [(0, facts.size)] if facts.size else []
            self._fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        else:
            self._fd = os.open(self.part, os.O_RDWR | os.O_CLOEXEC)

    def write(self, start: int, offset: int, data: memoryview) -> None:
        """Write bytes that continue the range begun at `start`, and note them."""
        position = offset
        while data:
            count = os.pwrite(self._fd, data, position)
            data, position = data[count:], position + count
        self._journal.written(self._key, start, position)
        with self._lock:
            self._unsynced[start] = position
            self._unsynced_bytes += position - offset
            due = self._unsynced_bytes >= SYNC_EVERY_BYTES
        if due:
            self.sync()

    def fill(self, data: memoryview) -> None:
        """Write a whole file that costs too little to be noted on the way."""
        position = 0
        while position < len(data):
            position += os.pwrite(self._fd, data[position:], position)

    def sync(self) -> None:
        """Bring what was written so far to the disk, then note that it is there."""
        with self._lock:
            ranges, self._unsynced, self._unsynced_bytes = self._unsynced, {}, 0
        if ranges:
            os.fdatasync(self._fd)
            self._journal.synced(self._key, ranges.items())

    def finish(self, mtime_ns: int) -> None:
        """Give the whole file its time and its name; a power cut leaves it so or as it was."""
        os.utime(self._fd, ns=(mtime_ns, mtime_ns))
        os.fsync(self._fd)
        self.part.replace(self.path)

    def discard(self) -> None:
        """Remove what is there: its bytes are wrong, or of a version that is gone."""
        self.part.unlink(missing_ok=True)
        self._journal.forget(self._key)

    def close(self) -> None:
        """Let go of the file; what was written stays, to be resumed."""
        os.close(self._fd)


def _free_name(path: Path) -> str:
    """Return a name for the part file at which nothing lies that may be someone else's."""
    plain = path.with_name(f"{path.name}.part")
    if len(plain.name.encode()) > _MAX_NAME_BYTES - len(_OURS):
        return hashlib.blake2b(path.name.encode(), digest_size=16).hexdigest() + _OURS
    return path.name + _OURS if plain.exists() else plain.name


def _gaps(begun: Begun, size: int, part: Path) -> list[tuple[int, int]]:
    """Return the ranges that are not on disk, in order."""
    try:
        present = part.stat().st_size
    except FileNotFoundError:
        return [(0, size)]
    gaps, position = [], 0
    for start, stop in begun.ranges:
        if stop > min(present, size):
            continue
        if start > position:
            gaps.append((position, start))
        position = max(position, stop)
    return [*gaps, (position, size)] if position < size else gaps
