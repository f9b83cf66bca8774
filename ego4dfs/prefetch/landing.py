"""Landing: gives complete copies their names, and writes down what is right."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ego4dfs.prefetch.copying import sync_directory
from ego4dfs.prefetch.journal import Journal, Record
from ego4dfs.prefetch.layout import Layout
from ego4dfs.prefetch.partfile import PartFile
from ego4dfs.prefetch.plan import Item, State
from ego4dfs.prefetch.report import Report, Status
from ego4dfs.prefetch.versions import VersionFile
from ego4dfs.store import ObjectFacts

log = logging.getLogger(__name__)


class Landing:
    """The end of each copy.

    `land` is safe from several threads. `save` brings names and the official tool's records to
    the disk; one thread calls it now and then, and once in the end. Raises OSError.
    """

    def __init__(
        self, layout: Layout, journal: Journal, report: Report, *, source: str, release: str
    ) -> None:
        """Record copies as of `release` of `source`."""
        self._layout = layout
        self._journal = journal
        self._report = report
        self._source = source
        self._release = release
        self._landed: deque[tuple[Item, ObjectFacts]] = deque()
        self._versions: dict[str, VersionFile] = {}
        self._lock = threading.Lock()  # one at a time sets a stranger's file aside

    def land(self, item: Item, facts: ObjectFacts, part: PartFile, checksum: str) -> None:
        """Give a copy that was proved its name, and record it."""
        if not item.is_ours:
            self._set_aside(part.path)
        part.finish(facts.mtime_ns)
        self._journal.complete([(item.path, self._record(item, facts, checksum))])
        self._landed.append((item, facts))
        self._report.done()

    def accept(self, item: Item, facts: ObjectFacts, checksum: str) -> None:
        """Record a file that lay there and is right, and give it the time of its object."""
        self._clear(item)
        self._date(item, facts)
        self._journal.complete([(item.path, self._record(item, facts, checksum))])
        self._landed.append((item, facts))
        self._report.done(Status.SKIPPED)

    def accept_all(self, items: Iterable[Item]) -> None:
        """Record files that are right by a record of the official tool's or of ours."""
        count, adopted = 0, []
        for item in items:
            count += 1
            if item.facts is None:
                continue
            self._landed.append((item, item.facts))
            if item.state is State.ADOPT:
                self._clear(item)
                self._date(item, item.facts)
                adopted.append((item.path, self._record(item, item.facts, item.checksum)))
        self._journal.complete(adopted)
        self._report.done(Status.SKIPPED, count)

    def save(self) -> None:
        """Write manifest.ver where something changed, once the names in its directory are safe."""
        rows: dict[str, list[tuple[str, str, str]]] = {}
        while self._landed:
            item, facts = self._landed.popleft()
            rows.setdefault(item.dataset, []).append((item.uid, facts.version_id, item.name))
        for dataset, some in rows.items():
            directory = self._layout.dataset(dataset)
            if dataset not in self._versions:
                self._versions[dataset] = VersionFile(directory)
            self._versions[dataset].update(some)
            sync_directory(directory)
            self._versions[dataset].save()

    def _clear(self, item: Item) -> None:
        """Remove what a copy under way left, when the file has become right in another way."""
        begun = self._journal.begun(item.path)
        if begun is not None:
            with suppress(OSError):
                (self._layout.root / item.directory / begun.part_name).unlink()

    def _date(self, item: Item, facts: ObjectFacts) -> None:
        """By its time a file is known again; one that is not ours to change is proved each time."""
        with suppress(PermissionError, FileNotFoundError):
            os.utime(self._layout.root / item.path, ns=(facts.mtime_ns, facts.mtime_ns))

    def _record(self, item: Item, facts: ObjectFacts, checksum: str) -> Record:
        return Record(item.url, self._source, self._release, facts, checksum)

    def _set_aside(self, path: Path) -> None:
        """Keep a file that neither tool wrote: it is somebody's work."""
        with self._lock, suppress(FileNotFoundError):
            path.lstat()
            aside, number = path.with_name(f"{path.name}.orig"), 1
            while aside.exists():
                number += 1
                aside = path.with_name(f"{path.name}.orig~{number}")
            path.rename(aside)
            log.warning("%s was not written by ego4dfs or ego4d: it is now %s", path, aside.name)
