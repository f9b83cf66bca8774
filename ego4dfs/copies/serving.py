"""Reads of prefetched copies: a mount's first source of bytes, before the cache and the store.

A copy is used only if `judge` finds that it is the object (ADR 0011), by the journal, by the
official tool's manifest.ver, by its time, or by its bytes. One that is not is ignored, and
reported once.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ego4dfs.copies.directory_fds import Directories
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.journal import Journal
from ego4dfs.copies.layout import STATE_DIRECTORY
from ego4dfs.copies.manifest_ver_index import RowsByPath
from ego4dfs.copies.record import Record
from ego4dfs.copies.rule import (
    COMPARED_BYTES,
    Context,
    FileState,
    State,
    Verdict,
    is_as_recorded,
    judge,
)
from ego4dfs.datasets import MANIFEST, METADATA, version_directory
from ego4dfs.errors import ConfigError, OutputError, os_error_text
from ego4dfs.files import open_regular, read_regular
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Comparison, compare
from ego4dfs.text import folded

log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete file on disk, and the attributes that show whether it was replaced since."""

    path: str
    size: int
    mtime_ns: int
    inode: int


class Copies:
    """The copies below one directory, read through descriptors that were opened at the start.

    So they can be read while a mount covers the directory. Links to files are not followed.
    Safe from several threads; each read opens the file again, so no descriptor is shared.
    """

    def __init__(self, directory: Path, source: str, report: Callable[[str], None]) -> None:
        """Read copies of objects of `source` below `directory`; `report` gets each warning.

        Raises ConfigError if the directory cannot be opened.
        """
        self._warned: set[str] = set()
        self._compared: dict[tuple[Copy, str, str], Comparison] = {}  # with this URL and ETag
        self._lock = threading.Lock()  # guards the set of warnings
        self._directory = directory
        self._source = source
        self._report = report
        try:
            self._directories = Directories(directory, self._warn_once)
        except OSError as error:
            raise ConfigError(
                f"--copies {directory}: {os_error_text(error)}",
                hint="name the directory that prefetch or the official tool filled",
            ) from error
        try:
            self._records, self._etags = _read_journal(directory / STATE_DIRECTORY, source)
        except BaseException:
            self._directories.close()
            raise
        prefetched = frozenset(path.rpartition("/")[0] for path in self._records)
        self._rows = RowsByPath(self._directories, self._read, self._warn_of_damage, prefetched)
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

    def exists(self, path: str) -> bool:
        """Return whether a file exists at this path, complete or not."""
        return self._status(path) is not None

    def manifest(self, version: str, dataset: str) -> tuple[bytes, int] | None:
        """Return the manifest beside the copies, and its time; None without one."""
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
        """Return the facts of the object in the journal, if the copy was not changed since."""
        path = self._on_disk(path, url)
        record = self._record(path, url)
        found = self._status(path) if record is not None else None
        if record is None or found is None or record.source != self._source:
            return None
        return record.facts if is_as_recorded(_file_state(found), record) else None

    def find_valid(self, path: str, url: str, facts: ObjectFacts) -> Copy | None:
        """Return the copy if it is this version of the object, else None.

        If no record decides, its bytes are read and compared with the ETag, once.
        """
        path = self._on_disk(path, url)
        found = self._status(path)
        if found is None:
            return None
        copy = Copy(path, found.st_size, found.st_mtime_ns, found.st_ino)
        reason = self._mismatch(path, url, facts, copy)
        if reason:
            self._warn_once(path, reason)
            return None
        return copy

    def recorded_facts(self, path: str, url: str) -> ObjectFacts | None:
        """Return facts of a copy, without an ETag, from the official tool's record alone.

        Used while the store cannot be reached: the copy may not be the latest version.
        """
        found = self._status(path)
        if found is None or not found.st_size or self._is_other_case(path):
            return None
        if self._record(path, url) is not None:
            return None  # changed since it was fetched, or `facts` would have it
        row = self._rows.recorded(path, found.st_mtime_ns)
        if row is None:
            return None
        return ObjectFacts(found.st_size, "", row.version or "", found.st_mtime_ns)

    def find_recorded(self, path: str, facts: ObjectFacts) -> Copy | None:
        """Return the copy of which `recorded_facts` returned these facts."""
        found = self._status(path)
        if found is None or (found.st_size, found.st_mtime_ns) != (facts.size, facts.mtime_ns):
            return None
        return Copy(path, found.st_size, found.st_mtime_ns, found.st_ino)

    def read_into(self, copy: Copy, offset: int, view: memoryview) -> int | None:
        """Fill `view` with the bytes from `offset` on and return their number.

        None if the file was changed or replaced since it was found valid, or cannot be read.
        """
        wanted = max(0, min(len(view), copy.size - offset))
        try:
            wrong = self._fill(copy, offset, view[:wanted])
        except OSError as error:
            wrong = f"cannot be read ({error.strerror})"
        if wrong:
            self._warn_once(copy.path, wrong)
            return None
        return wanted

    def _fill(self, copy: Copy, offset: int, view: memoryview) -> str:
        """Fill the whole view; return why that failed, or ''."""
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
        return "" if done == len(view) else "was truncated while it was read"

    def close(self) -> None:
        """Close the descriptors of all directories."""
        self._directories.close()

    def _mismatch(self, path: str, url: str, facts: ObjectFacts, copy: Copy) -> str:
        """Return why a copy cannot be used, or ''."""
        if copy.size != facts.size:
            return f"has {copy.size} bytes where the object has {facts.size}"
        if self._is_other_case(path):
            return "may be another file, whose name differs only in case"
        verdict = self._judge(path, url, facts, copy)
        if verdict.is_complete:
            return ""
        if verdict.state is State.FETCH:
            return "is of another version of the object"
        if copy.size > COMPARED_BYTES:
            return "has another time than the object, and there is no record of it"
        return self._difference(copy, url, facts, verdict)

    def _judge(self, path: str, url: str, facts: ObjectFacts, copy: Copy) -> Verdict:
        file, record = FileState(copy.size, copy.mtime_ns), self._record(path, url)
        row = self._rows.own(path)
        can_prove = bool(record and self._etags.can_prove(url, record.facts))
        context = Context(source=self._source, etag_can_prove=can_prove)
        verdict = judge(file, record, row, facts, context)
        if verdict.is_complete or verdict.state is State.FETCH:
            return verdict  # other directories are read only if needed
        others = self._rows.elsewhere(path)
        return judge(file, record, row, facts, context, rows_elsewhere=others)

    def _difference(self, copy: Copy, url: str, facts: ObjectFacts, verdict: Verdict) -> str:
        """Compare a copy with the ETag of its object, unless that was done before."""
        key = (copy, url, facts.etag)
        found = self._compared.get(key)
        if found is None:
            try:
                found = compare(partial(self._chunks, copy.path), facts.size, facts.etag)
            except OSError as error:
                return f"cannot be read ({error.strerror})"
            self._compared[key] = found
            self._etags.note(url, found)
        proof = self._etags.proof(url, facts.size, facts.etag, found)
        is_wrong = proof.counts_as_wrong(size_suffices=verdict.size_suffices)
        return "does not agree with the ETag of its object" if is_wrong else ""

    def _chunks(self, path: str) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(_READ_BYTES))
        with open(self._open(path), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            while count := file.readinto(buffer):
                yield buffer[:count]

    def _on_disk(self, path: str, url: str) -> str:
        """Return the path of an object's copy, which may have another name on this disk."""
        if path in self._records:
            return path
        return self._renamed.get((path.rpartition("/")[0], url), path)

    def _is_other_case(self, path: str) -> bool:
        """Return whether a path without a record differs only in case from one with a record."""
        if path in self._records:
            return False
        if self._folded is None:
            self._folded = frozenset(map(folded, self._records))
        return folded(path) in self._folded

    def _record(self, path: str, url: str) -> Record | None:
        """Return the record of a copy; the root's ego4d.json is another name of its version's."""
        record = self._metadata.get(url) if path == METADATA else self._records.get(path)
        return record if record is not None and record.url == url else None

    def _warn_once(self, path: str, what: str) -> None:
        with self._lock:
            if path in self._warned:
                return
            self._warned.add(path)
        log.warning("copy %s %s; it is not used", self._directory / path, what)
        self._report(f"copy {path} {what}; not used")

    def _status(self, path: str) -> os.stat_result | None:
        """Return the status of a regular file, else None; warn of links and special files."""
        directory, _, name = path.rpartition("/")
        try:
            found = os.stat(name, dir_fd=self._directories.below(directory), follow_symlinks=False)
        except OSError:
            return None
        if stat.S_ISLNK(found.st_mode):
            self._warn_once(directory, "has links in place of files, which are not followed")
        elif not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            self._warn_once(path, "is not a regular file")
        return found if stat.S_ISREG(found.st_mode) else None

    def _open(self, path: str) -> int:
        directory, _, name = path.rpartition("/")
        return open_regular(name, dir_fd=self._directories.below(directory), follow_symlinks=False)

    def _read(self, path: str) -> tuple[bytes, os.stat_result]:
        directory, _, name = path.rpartition("/")
        return read_regular(name, dir_fd=self._directories.below(directory), follow_symlinks=False)

    def _warn_of_damage(self, path: str, damage: str) -> None:
        log.warning("%s is damaged: %s; the rest of it is used", self._directory / path, damage)
        self._report(f"{path} is damaged: {damage}; the rest of it is used")


def _read_journal(state: Path, source: str) -> tuple[dict[str, Record], BucketEtags]:
    """Return the content of a journal; an unreadable one counts as empty."""
    try:
        with closing(Journal(state, read_only=True)) as journal:
            return dict(journal.records()), BucketEtags(journal, source)
    except OutputError as error:
        log.warning("%s: copies are checked by their times and by manifest.ver only", error)
    with closing(Journal.empty()) as journal:
        return {}, BucketEtags(journal, source)


def _file_state(found: os.stat_result) -> FileState:
    return FileState(found.st_size, found.st_mtime_ns)
