"""Prefetched copies as a place where bytes come from, before the cache and the store.

A copy is used only if it is surely the object's bytes: it has the object's size, and either its
own time is the object's, as prefetch leaves it, or a record says which version it is. Records are
prefetch's journal and the official tool's manifest.ver. A copy that disagrees is ignored, and
reported once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.copies.directories import Directories
from ego4dfs.copies.version_rows import parse_versions
from ego4dfs.datasets import MANIFEST, MANIFEST_VER, METADATA, version_directory
from ego4dfs.errors import ConfigError
from ego4dfs.files import open_regular, read_regular
from ego4dfs.sqlite import connect, read_only_uri
from ego4dfs.store import ObjectFacts
from ego4dfs.text import folded

log = logging.getLogger(__name__)

_JOURNAL = Path(".ego4dfs") / "journal.sqlite"
_LOCK_WAIT_S = 5.0
_SECOND_NS = 10**9


@dataclass(frozen=True, slots=True)
class Copy:
    """A file on disk that was found right, and what would show that it is another one now."""

    path: str
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class _Record:
    """What the journal says of a copy: which object it is of, and the time that it was left."""

    url: str
    facts: ObjectFacts
    mtime_ns: int


class Copies:
    """The copies below one directory, read through descriptors that were opened at the start.

    So they stay within reach when a mount covers the directory. Links to files are not followed.
    Safe from several threads; each read opens the file anew, so no descriptor is shared.
    """

    def __init__(self, directory: Path, source: str, report: Callable[[str], None]) -> None:
        """Look at `directory` for copies of objects of `source`. Raises ConfigError."""
        self._told: set[str] = set()
        self._lock = threading.Lock()  # guards what was told
        self._directory = directory
        self._report = report
        try:
            self._directories = Directories(directory, self._tell)
        except OSError as error:
            raise ConfigError(
                f"--copies {directory}: {(error.strerror or str(error)).lower()}",
                hint="name the directory that prefetch or the official tool filled",
            ) from error
        self._records = _journal(directory / _JOURNAL, source)
        self._metadata = {
            record.url: record
            for path, record in self._records.items()
            if path.endswith(f"/{METADATA}")
        }
        # On a disk where case does not count, prefetch gives a later file another name.
        self._renamed = {
            (path.rpartition("/")[0], record.url): path
            for path, record in self._records.items()
            if "~" in path
        }
        self._folded: frozenset[str] | None = None
        self._versions: dict[str, dict[str, str]] = {}

    def is_there(self, path: str) -> bool:
        """Tell whether there is a file of this path, right or not."""
        return self._status(path) is not None

    def manifest(self, version: str, dataset: str) -> tuple[bytes, int] | None:
        """Return a manifest that lies beside the copies, and its time; None without one."""
        path = f"{version_directory(version)}/{dataset}/{MANIFEST}"
        try:
            content, status = self._read(path)
        except OSError:
            return None
        return content, status.st_mtime_ns

    def without_record(self, files: Iterable[tuple[str, str]]) -> list[str]:
        """Return the URLs of those objects, given as (path, url), that no record describes."""
        return [url for path, url in files if self.facts(path, url) is None]

    def facts(self, path: str, url: str) -> ObjectFacts | None:
        """Return what the journal knows of the object, if the copy is as it was left."""
        path = self._on_disk(path, url)
        record = self._record(path, url)
        found = self._status(path) if record is not None else None
        if record is None or found is None:
            return None
        facts = record.facts
        right = found.st_size == facts.size and _same_time(found.st_mtime_ns, record.mtime_ns)
        return facts if right else None

    def right(self, path: str, url: str, facts: ObjectFacts) -> Copy | None:
        """Return the copy if it is of this very version, else None."""
        path = self._on_disk(path, url)
        found = self._status(path)
        if found is None:
            return None
        wrong = self._objection(path, url, facts, found)
        if wrong:
            self._tell(path, wrong)
            return None
        return Copy(path, found.st_size, found.st_mtime_ns, found.st_ino)

    def read_into(self, copy: Copy, offset: int, view: memoryview) -> int | None:
        """Fill `view` from `offset` on and return how many bytes there were.

        None when the file is not the one any more that was found right, or cannot be read.
        """
        wanted = max(0, min(len(view), copy.size - offset))
        try:
            wrong = self._fill(copy, offset, view[:wanted])
        except OSError as error:
            wrong = f"cannot be read ({error.strerror})"
        if wrong:
            self._tell(copy.path, wrong)
            return None
        return wanted

    def _fill(self, copy: Copy, offset: int, view: memoryview) -> str:
        """Fill the whole view, or say why it cannot be."""
        descriptor = self._open(copy.path)
        try:
            now = os.fstat(descriptor)
            if (now.st_size, now.st_mtime_ns, now.st_ino) != (copy.size, copy.mtime_ns, copy.inode):
                return "was changed while it was open"
            done = 0
            while count := os.preadv(descriptor, [view[done:]], offset + done):  # at most 2 GiB
                done += count
        finally:
            os.close(descriptor)
        return "" if done == len(view) else "was cut short while it was read"

    def close(self) -> None:
        """Let go of the directory."""
        self._directories.close()

    def _objection(self, path: str, url: str, facts: ObjectFacts, found: os.stat_result) -> str:
        """Say why a copy cannot be used, or nothing."""
        if found.st_size != facts.size:
            return f"has {found.st_size} bytes where the object has {facts.size}"
        record = self._record(path, url)
        if record is None and self._is_anothers(path):
            return "may be another file, whose name differs only in case"
        if record is not None and not _same_time(found.st_mtime_ns, record.mtime_ns):
            return "was changed since it was fetched"
        told, wanted = self._version(path), facts.version_id
        if record is not None:
            told, wanted = record.facts.etag, facts.etag
        if told and wanted:
            return "" if told == wanted else "is of another version of the object"
        if _same_time(found.st_mtime_ns, facts.mtime_ns):
            return ""
        return "has another time than the object, and no record says what it is"

    def _on_disk(self, path: str, url: str) -> str:
        """Return where the copy of an object lies, which may be under another name."""
        if path in self._records:
            return path
        return self._renamed.get((path.rpartition("/")[0], url), path)

    def _is_anothers(self, path: str) -> bool:
        """Tell whether a path without a record differs only in case from one with a record."""
        if path in self._records:
            return False
        if self._folded is None:
            self._folded = frozenset(map(folded, self._records))
        return folded(path) in self._folded

    def _record(self, path: str, url: str) -> _Record | None:
        """Return the record of a copy; the root's ego4d.json is another name of its version's."""
        record = self._metadata.get(url) if path == METADATA else self._records.get(path)
        return record if record is not None and record.url == url else None

    def _tell(self, path: str, what: str) -> None:
        with self._lock:
            if path in self._told:
                return
            self._told.add(path)
        log.warning("copy %s %s; it is not used", self._directory / path, what)
        self._report(f"copy {path} {what}; not used")

    def _status(self, path: str) -> os.stat_result | None:
        """Return the status of a file that may be a copy; what is passed over is told."""
        directory, _, name = path.rpartition("/")
        try:
            found = os.stat(name, dir_fd=self._directories.below(directory), follow_symlinks=False)
        except OSError:
            return None
        if stat.S_ISLNK(found.st_mode):
            self._tell(directory, "has links in place of files, which are not followed")
        elif not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            self._tell(path, "is no regular file")
        return found if stat.S_ISREG(found.st_mode) else None

    def _open(self, path: str) -> int:
        directory, _, name = path.rpartition("/")
        return open_regular(name, dir_fd=self._directories.below(directory), follow_symlinks=False)

    def _read(self, path: str) -> tuple[bytes, os.stat_result]:
        directory, _, name = path.rpartition("/")
        return read_regular(name, dir_fd=self._directories.below(directory), follow_symlinks=False)

    def _version(self, path: str) -> str:
        """Return the version that the official tool's manifest.ver has for a file, or ''."""
        directory, _, name = path.rpartition("/")
        if directory not in self._versions:
            self._versions[directory] = self._read_versions(directory)
        versions = self._versions[directory]
        return versions.get(name) or versions.get(name.partition(".")[0], "")

    def _read_versions(self, directory: str) -> dict[str, str]:
        path = f"{directory}/{MANIFEST_VER}"
        try:
            rows, damage = parse_versions(self._read(path)[0])
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            rows, damage = [], (error.strerror or str(error)).lower()
        if damage:
            log.warning("%s is damaged: %s; the rest of it is used", self._directory / path, damage)
            self._report(f"{path} is damaged: {damage}; the rest of it is used")
        return {row.filename or row.uid: row.version or "" for row in rows}


def _journal(path: Path, source: str) -> dict[str, _Record]:
    """Read which copies are complete; a journal that cannot be read says nothing."""
    if path.exists() and not path.is_file():  # SQLite would wait for a pipe
        log.warning("%s is no regular file", path)
        return {}
    location = read_only_uri(path)
    if not location:
        if os.path.lexists(path):
            log.warning("%s may not be read: copies count by their times only", path)
        return {}
    query = "SELECT path, url, size, etag, version_id, mtime_ns FROM files WHERE source = ?"
    times_query = "SELECT path, mtime_ns FROM times"
    try:
        database = connect(location, lock_wait_s=_LOCK_WAIT_S)
        try:
            rows = database.execute(query, (source,)).fetchall()
            # An earlier version of ego4dfs had no such table.
            has_times = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'times'")
            times = dict(database.execute(times_query)) if has_times.fetchone() else {}
        finally:
            database.close()
    except sqlite3.Error as error:
        log.warning("%s cannot be read: %s", path, error)
        return {}
    return {
        row[0]: _Record(row[1], ObjectFacts(*row[2:]), times.get(row[0], row[5])) for row in rows
    }


def _same_time(found_ns: int, told_ns: int) -> bool:
    """Tell whether a file has a time as it was set; some filesystems keep only even seconds."""
    coarse = found_ns % _SECOND_NS == 0 and abs(found_ns - told_ns) < 2 * _SECOND_NS
    return coarse or found_ns == told_ns
