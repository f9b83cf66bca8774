"""Committer: renames complete part files, and records them in the journal and manifest.ver."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ego4dfs.copies import Journal, Layout, Record, State
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.files import HIDDEN, Folders
from ego4dfs.prefetch.disk_errors import is_of_own_disk
from ego4dfs.prefetch.part_file import PartFile, part_name
from ego4dfs.prefetch.plan import Item
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.store import ObjectFacts

log = logging.getLogger(__name__)

_NOT_ALLOWED = (errno.EACCES, errno.EPERM)


class Committer:
    """Completes copies.

    `commit` is safe from several threads. `flush` writes names and the official tool's records to
    disk; one thread calls it from time to time, and once at the end. Raises OSError.
    """

    def __init__(
        self,
        layout: Layout,
        folders: Folders,
        journal: Journal,
        report: Report,
        is_data: Callable[[str], bool],
        *,
        source: str,
        release: str,
    ) -> None:
        """Record copies of `release` of `source`; `is_data` returns whether a path is a copy."""
        self._layout = layout
        self._folders = folders
        self._journal = journal
        self._report = report
        self._is_data = is_data
        self._source = source
        self._release = release
        self._committed: deque[tuple[Item, ObjectFacts]] = deque()
        self._versions: dict[str, VersionFile] = {}
        self._unsaved: set[str] = set()
        self._lock = threading.Lock()  # one thread at a time renames a user's file
        self._leftovers: dict[str, frozenset[str]] = {}

    def commit(self, item: Item, facts: ObjectFacts, part: PartFile, checksum: str) -> None:
        """Rename a complete copy that passed its check, and record it."""
        if not item.is_ours:
            self._set_aside(item.path)
        mtime_ns = part.finish(facts.mtime_ns)
        self._journal.complete([(item.path, self._record(item, facts, checksum, mtime_ns))])
        self._committed.append((item, facts))
        self._report.done()

    def adopt(self, item: Item, facts: ObjectFacts, checksum: str) -> None:
        """Record an existing file that is right, and set the time of its object."""
        self._clear(item)
        mtime_ns = self._date(item, facts)
        self._journal.complete([(item.path, self._record(item, facts, checksum, mtime_ns))])
        self._committed.append((item, facts))
        self._report.done(Status.SKIPPED)

    def adopt_all(self, items: Iterable[Item]) -> None:
        """Record files that are complete by a record of the official tool or of ego4dfs."""
        count, adopted = 0, []
        for item in items:
            count += 1
            if item.facts is None:
                continue
            self._committed.append((item, item.facts))
            if item.state is State.ADOPT:
                self._clear(item)
                mtime_ns = self._date(item, item.facts)
                record = self._record(item, item.facts, item.checksum, mtime_ns)
                adopted.append((item.path, record))
        self._journal.complete(adopted)
        self._report.done(Status.SKIPPED, count)

    def flush(self) -> None:
        """Write each manifest.ver that changed, after its directory is synced."""
        rows: dict[str, list[tuple[str, str, str]]] = {}
        while self._committed:
            item, facts = self._committed.popleft()
            rows.setdefault(item.dataset, []).append((item.uid, facts.version_id, item.name))
        for dataset, some in rows.items():
            with self._journal.exclusive():
                self._flush_dataset(dataset, some)

    def _flush_dataset(self, dataset: str, rows: Sequence[tuple[str, str, str]]) -> None:
        directory = self._layout.dataset(dataset)
        if dataset not in self._versions or self._journal.is_shared:
            self._versions[dataset] = VersionFile(directory)
        self._versions[dataset].update(rows)
        try:
            self._save(dataset)
        except OSError as error:
            is_its_own = is_of_own_disk(error, directory, self._layout.root)
            if not is_its_own and error.errno not in _NOT_ALLOWED:
                raise
            if dataset not in self._unsaved:
                self._unsaved.add(dataset)
                log.warning("the official tool will not know all these copies: %s", error)

    def _save(self, dataset: str) -> None:
        folder = self._folders.folder(self._layout.relative_directory(dataset))
        folder.sync()
        self._versions[dataset].save(folder)

    def _clear(self, item: Item) -> None:
        """Remove the part file of a copy that was completed by another program."""
        partial = self._journal.partial_download(item.path)
        folder, own_name = self._folders.split(item.path)
        part = partial.part_name if partial is not None else f"{HIDDEN}/{part_name(own_name)}"
        hidden, _, name = part.rpartition("/")
        with suppress(OSError):
            if hidden == HIDDEN and (partial is not None or name in self._left_in(item.directory)):
                folder.hidden().remove(name)
            elif not hidden and not self._is_data(f"{item.directory}/{name}"):
                folder.remove(name)

    def _left_in(self, directory: str) -> frozenset[str]:
        """Return the part files in a directory that an earlier run left, listed once."""
        left = self._leftovers.get(directory)
        if left is None:
            left = frozenset(self._folders.folder(directory).hidden_names())
            self._leftovers[directory] = left
        return left

    def _date(self, item: Item, facts: ObjectFacts) -> int:
        """Set the time of a file to that of its object if permitted; return the resulting time.

        The time identifies the file in later runs.
        """
        folder, name = self._folders.split(item.path)
        with suppress(FileNotFoundError):
            return folder.set_mtime(name, facts.mtime_ns) or 0
        return 0

    def _record(self, item: Item, facts: ObjectFacts, checksum: str, mtime_ns: int) -> Record:
        return Record(item.url, self._source, self._release, facts, checksum, set_mtime_ns=mtime_ns)

    def _set_aside(self, path: str) -> None:
        """Rename a file that neither tool wrote, so that the user's data is kept."""
        folder, name = self._folders.split(path)
        with self._lock:
            found = folder.status(name)
            if found is None:
                return
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(
                    errno.EISDIR, os.strerror(errno.EISDIR), str(folder.path / name)
                )
            aside = folder.set_aside(name, ".orig")
            log.warning("%s was not written by ego4dfs or ego4d; it was renamed to %s", path, aside)
