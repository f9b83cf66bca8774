"""The files and records of one dataset's directory of copies, and the state of each file.

Reads the disk only; sends no request.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.journal import Journal
from ego4dfs.copies.layout import Layout
from ego4dfs.copies.manifest_ver import Row, VersionFile
from ego4dfs.copies.record import Record
from ego4dfs.copies.rule import Context, FileState, Verdict, is_as_recorded, judge
from ego4dfs.datasets import MANIFEST_VER, METADATA
from ego4dfs.manifest import Entry
from ego4dfs.store import ObjectFacts
from ego4dfs.text import folded


@dataclass(frozen=True)
class Inventory:
    """The files in one dataset's directory, our records of them and the official tool's."""

    layout: Layout
    dataset: str
    prefix: str
    files: dict[str, FileState]
    records: dict[str, Record]
    versions: VersionFile
    evidence: BucketEtags

    @classmethod
    def scan(
        cls,
        layout: Layout,
        journal: Journal,
        dataset: str,
        entries: Iterable[Entry],
        known: Mapping[str, ObjectFacts],
        evidence: BucketEtags,
        *,
        skip_unreadable: bool = False,
    ) -> Inventory:
        """Find the files of these entries in the directory, which need not exist.

        `known` are facts by URL. Records share equal objects with entries and facts. Raises OSError
        if the directory cannot be read; with `skip_unreadable` it has no files.
        """
        directory, prefix = layout.dataset(dataset), layout.relative_directory(dataset)
        by_name = {entry.name: entry for entry in entries}
        files: dict[str, FileState] = {}
        try:
            files = _files(directory, by_name)
        except OSError:
            if not skip_unreadable:
                raise
        in_root = layout.root / METADATA
        if not dataset and METADATA not in files and in_root.is_file():
            files[METADATA] = FileState(in_root.stat().st_size, in_root.stat().st_mtime_ns)
        records = {}
        for path, record in journal.records(prefix):
            entry = by_name.get(path[len(prefix) + 1 :])
            if entry is not None:
                records[entry.name] = _sharing(record, entry, known.get(entry.url))
        return cls(layout, dataset, prefix, files, records, VersionFile(directory), evidence)

    @property
    def directory(self) -> Path:
        """The directory of the files."""
        return self.layout.dataset(self.dataset)

    def path(self, name: str) -> str:
        """Return a file's path below the root."""
        return f"{self.prefix}/{name}"

    def record(self, entry: Entry) -> Record | None:
        """Return the record of a complete copy of this object."""
        record = self.records.get(entry.name)
        return record if record is not None and record.url == entry.url else None

    def needs_revalidation(self, entry: Entry, facts: ObjectFacts) -> bool:
        """Return whether a file may be of a newer version of its object than `facts`.

        That is so if another program wrote it, or the official tool recorded another version.
        """
        if entry.name not in self.files:
            return False
        record, row = self.record(entry), self.versions.get(entry.uid, entry.name)
        recorded = row.version if row is not None else ""
        is_foreign = record is None or not is_as_recorded(self.files[entry.name], record)
        return is_foreign or bool(recorded and recorded != facts.version_id)

    def judge(
        self, entry: Entry, facts: ObjectFacts | None, *, source: str, presence_suffices: bool
    ) -> Verdict:
        """Return the state of a file; `facts` are the current facts of its object, if known."""
        record = self.record(entry)
        return judge(
            self.files.get(entry.name),
            record,
            self.versions.get(entry.uid, entry.name),
            facts,
            Context(
                source=source,
                etag_can_prove=bool(record and self.evidence.can_prove(entry.url, record.facts)),
                presence_suffices=presence_suffices,
            ),
            rows_elsewhere=self._rows_elsewhere(entry),
        )

    def is_ours(self, entry: Entry, verdict: Verdict) -> bool:
        """Return whether a file was written by ego4dfs or the official tool, by their records."""
        has_row = self.versions.get(entry.uid, entry.name) is not None
        return entry.name in self.records or has_row or verdict.has_object_time

    def _rows_elsewhere(self, entry: Entry) -> Collection[Row]:
        if not entry.uid or entry.name not in self.files:
            return ()
        return self._elsewhere.get((entry.uid, entry.name), ())

    @cached_property
    def _elsewhere(self) -> dict[tuple[str, str], list[Row]]:
        """The rows in the manifest.ver files of other datasets, by uid and name.

        The official tool records all datasets of one run in the directory of the last one.
        """
        version = self.layout.dataset("")
        found: dict[tuple[str, str], list[Row]] = {}
        for pattern in (f"*/{MANIFEST_VER}", f"*/*/{MANIFEST_VER}"):
            for path in version.glob(pattern):
                for row in VersionFile(path.parent).all() if path.parent != self.directory else ():
                    found.setdefault((row.uid, row.filename), []).append(row)
        return found


def _files(directory: Path, by_name: Mapping[str, Entry]) -> dict[str, FileState]:
    """Return size and time of the files that entries name.

    Some filesystems list a name in another spelling than the one in which it was created.
    """
    files: dict[str, FileState] = {}
    unmatched: set[str] = set()
    if directory.is_dir():
        with os.scandir(directory) as found:
            for file in found:
                entry = by_name.get(file.name)
                if entry is None:
                    unmatched.add(folded(file.name))
                with suppress(OSError):  # a link without an accessible target
                    if entry is not None and file.is_file():
                        status = file.stat()
                        files[entry.name] = FileState(status.st_size, status.st_mtime_ns)
    for name in by_name if unmatched else ():
        if name not in files and folded(name) in unmatched:
            with suppress(OSError):
                status = (directory / name).stat()
                if stat.S_ISREG(status.st_mode):
                    files[name] = FileState(status.st_size, status.st_mtime_ns)
    return files


def _sharing(record: Record, entry: Entry, facts: ObjectFacts | None) -> Record:
    """Return a record that shares objects with others: there may be 100,000 of them."""
    url = entry.url if record.url == entry.url else record.url
    same = facts if facts is not None and facts == record.facts else record.facts
    return replace(record, url=url, facts=same)
