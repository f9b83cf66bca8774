"""What the disk has of one dataset, and what that makes of each of its files. No requests."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ego4dfs.copies.bucket_etags import BucketEtags
from ego4dfs.copies.journal import Journal
from ego4dfs.copies.layout import Layout
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.copies.record import Record, is_same_time
from ego4dfs.copies.rule import State
from ego4dfs.datasets import MANIFEST_VER, METADATA
from ego4dfs.manifest import Entry
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Proof, is_md5
from ego4dfs.text import folded


@dataclass(frozen=True, slots=True)
class Finding:
    """What has to be done about a file, whose it is, and whether its size alone may do."""

    state: State
    is_ours: bool
    size_suffices: bool = False


@dataclass(frozen=True)
class Here:
    """The files in one dataset's directory, our records of them and the official tool's."""

    layout: Layout
    dataset: str
    prefix: str
    sizes: dict[str, tuple[int, int]]
    records: dict[str, Record]
    versions: VersionFile
    evidence: BucketEtags

    @classmethod
    def look(
        cls,
        layout: Layout,
        journal: Journal,
        dataset: str,
        entries: Iterable[Entry],
        known: Mapping[str, ObjectFacts],
        evidence: BucketEtags,
    ) -> Here:
        """Look for the files of these entries in the directory, which need not exist.

        `known` are facts by URL; those that a record tells too are shared, as are names and URLs.
        """
        directory, prefix = layout.dataset(dataset), layout.relative_directory(dataset)
        by_name = {entry.name: entry for entry in entries}
        sizes = _sizes(directory, by_name)
        top = layout.root / METADATA
        if not dataset and METADATA not in sizes and top.is_file():
            sizes[METADATA] = (top.stat().st_size, top.stat().st_mtime_ns)
        records = {}
        for path, record in journal.records(prefix):
            entry = by_name.get(path[len(prefix) + 1 :])
            if entry is not None:
                records[entry.name] = _sharing(record, entry, known.get(entry.url))
        return cls(layout, dataset, prefix, sizes, records, VersionFile(directory), evidence)

    def path(self, name: str) -> str:
        """Return a file's path below the root."""
        return f"{self.prefix}/{name}"

    def record(self, entry: Entry) -> Record | None:
        """Return the record of a complete copy of this object."""
        record = self.records.get(entry.name)
        return record if record is not None and record.url == entry.url else None

    def is_doubtful(self, entry: Entry, facts: ObjectFacts) -> bool:
        """Tell whether a file may be of a newer version of its object than is known.

        Somebody else wrote it, or the official tool records a version that we do not know.
        """
        if entry.name not in self.sizes:
            return False
        record, row = self.record(entry), self.versions.get(entry.uid, entry.name)
        told = row.version if row is not None else ""
        is_foreign = record is None or not self._is_untouched(entry, record)
        return is_foreign or bool(told and told != facts.version_id)

    def judge(
        self, entry: Entry, facts: ObjectFacts | None, *, source: str, bypass: bool
    ) -> Finding:
        """Say what has to be done about a file; `facts` are what its object is now, if known.

        With `bypass` a file counts by its presence, unless it is known to be cut short.
        """
        size, mtime_ns = self.sizes.get(entry.name, (-1, 0))
        dated = facts is not None and is_same_time(mtime_ns, facts.mtime_ns)
        row = self.versions.get(entry.uid, entry.name)
        is_ours = entry.name in self.records or row is not None or dated
        kept = self._kept(entry, facts, source) if size >= 0 else State.FETCH
        if kept is not None:
            return Finding(kept, is_ours)
        if facts is not None and facts.size != size:
            return Finding(State.FETCH, is_ours)
        if bypass:
            return Finding(State.RIGHT, is_ours)
        if facts is None:
            return Finding(State.CHECK, is_ours, size_suffices=is_ours)
        state, size_suffices = self._by_versions(entry, facts, mtime_ns)
        return Finding(state, is_ours, size_suffices or dated)

    def _kept(self, entry: Entry, facts: ObjectFacts | None, source: str) -> State | None:
        """Say what has to be done about a file that is as we left it; None if it is not."""
        record = self.record(entry)
        if record is None or not self._is_untouched(entry, record):
            return None
        is_by_size = record.checksum != Proof.RIGHT.value and is_md5(record.facts.etag)
        if is_by_size and self.evidence.are_checksums(entry.url):
            return State.CHECK  # it passed when less was known of its bucket
        if facts is None or facts.etag == record.facts.etag:
            same = facts is None or facts.version_id == record.facts.version_id
            return State.RIGHT if same else State.ADOPT
        row = self.versions.get(entry.uid, entry.name)
        is_latest = row is not None and row.version and row.version == facts.version_id
        # Replaced on S3 since, unless the official tool has fetched it within the same second.
        return None if is_latest or record.source != source else State.FETCH

    def _by_versions(self, entry: Entry, facts: ObjectFacts, mtime_ns: int) -> tuple[State, bool]:
        """Say what the official tool's records make of a file of the right size."""
        record, row = self.record(entry), self.versions.get(entry.uid, entry.name)
        # Bytes that its ETag proved once are proved by it again, unless they were changed.
        is_known = (
            record is not None
            and record.facts.etag == facts.etag
            and record.checksum != Proof.RIGHT.value
        )
        if row and row.version and facts.version_id:
            if row.version != facts.version_id:
                return State.FETCH, False
            if record is None or record.facts.version_id != row.version:
                return State.ADOPT, False
            return State.CHECK, is_known  # our own row: the file was changed since
        if facts.version_id:
            elsewhere = record is None and self._elsewhere.get((entry.uid, entry.name))
            return (State.ADOPT if elsewhere == facts.version_id else State.CHECK), is_known
        # It records a download once it is complete, and here without a version.
        is_newer = row is not None and not row.version and mtime_ns >= facts.mtime_ns
        if is_newer and record is None and row is not None and row.version is not None:
            return State.ADOPT, False
        return State.CHECK, is_known or (is_newer and record is None)

    @cached_property
    def _elsewhere(self) -> dict[tuple[str, str], str]:
        """What the official tool told of files in the directories of other datasets.

        Of several datasets at once it records all in that of the last one.
        """
        version = self.layout.dataset("")
        found: dict[tuple[str, str], str] = {}
        for pattern in (f"*/{MANIFEST_VER}", f"*/*/{MANIFEST_VER}"):
            for path in version.glob(pattern):
                for uid, row in VersionFile(path.parent).rows():
                    found[uid, row.filename] = row.version or ""
        return found

    def _is_untouched(self, entry: Entry, record: Record) -> bool:
        """Tell whether a file is as we left it."""
        size, mtime_ns = self.sizes.get(entry.name, (-1, 0))
        return size == record.facts.size and is_same_time(mtime_ns, record.file_mtime_ns)


def _sizes(directory: Path, by_name: Mapping[str, Entry]) -> dict[str, tuple[int, int]]:
    """Return size and time of the files that entries name.

    Some disks list a file by another spelling than the one by which it was made.
    """
    sizes: dict[str, tuple[int, int]] = {}
    strange: set[str] = set()
    if directory.is_dir():
        with os.scandir(directory) as found:
            for file in found:
                entry = by_name.get(file.name)
                if entry is None:
                    strange.add(folded(file.name))
                with suppress(OSError):  # a link that leads nowhere to be looked at
                    if entry is not None and file.is_file():
                        status = file.stat()
                        sizes[entry.name] = (status.st_size, status.st_mtime_ns)
    for name in by_name if strange else ():
        if name not in sizes and folded(name) in strange:
            with suppress(OSError):
                status = (directory / name).stat()
                if stat.S_ISREG(status.st_mode):
                    sizes[name] = (status.st_size, status.st_mtime_ns)
    return sizes


def _sharing(record: Record, entry: Entry, facts: ObjectFacts | None) -> Record:
    """Return a record that holds what others hold anyway: there may be 100,000 of them."""
    url = entry.url if record.url == entry.url else record.url
    same = facts if facts is not None and facts == record.facts else record.facts
    return replace(record, url=url, facts=same)
