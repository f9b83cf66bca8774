"""PartFile: an unfinished download in `.ego4dfs/`, written by ranges and renamed when complete."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator

from ego4dfs.copies import Journal
from ego4dfs.copies.journal import PartialDownload
from ego4dfs.files import HIDDEN, Folder
from ego4dfs.files.best_effort import optional_call
from ego4dfs.store import ObjectFacts

SYNC_EVERY_BYTES = 256 << 20
"""How many bytes of one file a power cut may lose."""

_MAX_NAME_BYTES = 255
_READ_BYTES = 1 << 20


class PartFile:
    """The bytes of one object version that are on disk, and the ranges that are missing.

    Safe from several threads, each of which writes ranges of its own. `_lock` guards the list of
    what was written but not synced; it is never held over I/O. Raises OSError.
    """

    def __init__(
        self,
        folder: Folder,
        key: str,
        url: str,
        facts: ObjectFacts,
        journal: Journal,
        *,
        is_data: Callable[[str], bool] = lambda _path: False,
        is_filled: bool = False,
    ) -> None:
        """Resume this version from the journal, else start from zero.

        `folder` is where the copy will be, `key` its path in the journal, which ends in its name.
        `is_data` returns whether a path is itself a copy: earlier versions of ego4dfs kept part
        files among the copies. With `is_filled` all bytes are written by one `fill`: such a file
        cannot be resumed, so the journal does not record its beginning.
        """
        self._folder = folder
        self._name = key.rpartition("/")[2]
        self._key = key
        self._journal = journal
        self._lock = threading.Lock()
        self._unsynced: dict[int, int] = {}
        self._unsynced_bytes = 0
        self._part = part_name(self._name)
        self._hidden: Folder | None = None
        self._fd = -1
        if not is_filled:
            _check(folder, self._name)
        partial = journal.partial_download(key)
        if partial is not None and not partial.part_name.startswith(f"{HIDDEN}/"):
            old = f"{key.rpartition('/')[0]}/{partial.part_name}"
            if "/" not in partial.part_name and not is_data(old):
                _bring_in(folder, partial.part_name, self._part)
        fits = partial is not None and (partial.url, partial.etag, partial.size) == (
            url,
            facts.etag,
            facts.size,
        )
        self.missing = [(0, facts.size)]
        if partial is not None and fits and self._resume(partial, facts.size):
            return
        if is_filled:
            journal.forget(key)  # the records of another version are obsolete now
        else:
            journal.begin(key, url, facts, f"{HIDDEN}/{self._part}")
        self.missing = [(0, facts.size)] if facts.size else []
        self._hidden, self._fd = folder.create_hidden(self._part)

    def _resume(self, partial: PartialDownload, size: int) -> bool:
        """Open the part file, and return whether any range of it is valid."""
        try:
            self._opened()
        except OSError:  # missing, or of another user: a new one is created
            self.close()
            return False
        self.missing = _gaps(partial, size, os.fstat(self._fd).st_size)
        if self.missing == [(0, size)]:
            self.close()
            return False
        return True

    def write(self, start: int, offset: int, data: memoryview) -> None:
        """Write bytes that continue the range that starts at `start`, and record them."""
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
        """Write a whole file that is too small to be recorded in parts."""
        position = 0
        while position < len(data):
            position += os.pwrite(self._fd, data[position:], position)

    def chunks(self) -> Iterator[memoryview]:
        """Yield all bytes, in order."""
        buffer, position = memoryview(bytearray(_READ_BYTES)), 0
        while count := os.preadv(self._fd, [buffer], position):
            yield buffer[:count]
            position += count

    def sync(self) -> None:
        """Sync what was written so far, then record it as synced."""
        with self._lock:
            ranges, self._unsynced, self._unsynced_bytes = self._unsynced, {}, 0
        if ranges:
            with optional_call("to sync files"):
                os.fdatasync(self._fd)
            self._journal.synced(self._key, ranges.items())

    def finish(self, mtime_ns: int) -> int:
        """Set the time and name of the complete file; a power cut leaves the old or the new state.

        Returns the time of the file, which differs if the time cannot be set.
        """
        hidden = self._opened()
        with optional_call("to set times"):
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))
        with optional_call("to sync files"):
            os.fsync(self._fd)
        self._close_file()  # network filesystems may set the time at this point
        hidden.rename(self._part, self._folder, self._name)
        found = self._folder.status(self._name)
        return found.st_mtime_ns if found is not None else mtime_ns

    def discard(self) -> None:
        """Remove the part file: its bytes are wrong, or of a version that no longer exists."""
        self._opened().remove(self._part)
        self._journal.forget(self._key)

    def close(self) -> None:
        """Close the file; what was written stays, to be resumed or finished."""
        if self._fd >= 0:
            self._close_file()

    def _opened(self) -> Folder:
        """Return the hidden directory, with the file open, after `close` too."""
        if self._hidden is None:
            self._hidden = self._folder.hidden()
        if self._fd < 0:
            self._fd = self._hidden.open(self._part)
        return self._hidden

    def _close_file(self) -> None:
        descriptor, self._fd = self._fd, -1
        os.close(descriptor)


def part_name(name: str) -> str:
    """Return the name of a part file in the hidden directory, unique for each name."""
    part = f"{name}.part"
    if len(part.encode()) <= _MAX_NAME_BYTES:
        return part
    return f"{hashlib.blake2b(name.encode(), digest_size=24).hexdigest()}.long"


def _check(folder: Folder, name: str) -> None:
    """Raise an error before the download if the file could not be renamed after it."""
    found = folder.status(name)
    if found is not None and stat.S_ISDIR(found.st_mode):
        number = errno.EISDIR
        raise IsADirectoryError(number, os.strerror(number), str(folder.path / name))


def _bring_in(folder: Folder, old: str, part: str) -> None:
    """Move the part file of an earlier version of ego4dfs, which stored it beside the copies."""
    found = folder.status(old)
    if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        folder.hide(old, part)


def _gaps(partial: PartialDownload, size: int, present: int) -> list[tuple[int, int]]:
    """Return the ranges that are not on disk, in order; `present` is the size of the part file."""
    gaps, position = [], 0
    for start, stop in partial.ranges:
        if stop > min(present, size):
            continue
        if start > position:
            gaps.append((position, start))
        position = max(position, stop)
    return [*gaps, (position, size)] if position < size else gaps
