"""Verification of copies on disk: each file is read and compared with its object's facts.

The expected files come from the manifests, as for prefetch, or from prefetch's journal alone.
A size is always compared, and the bytes if the ETag is a checksum of them.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from ego4dfs.catalog import Listing
from ego4dfs.copies import Journal, Layout, Record, State
from ego4dfs.copies.checksum import compare_file
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.copies.name_collisions import disk_names, with_disk_names
from ego4dfs.copies.rule import FileState, is_as_recorded
from ego4dfs.datasets import MANIFEST, MANIFEST_VER, METADATA
from ego4dfs.files import Folders
from ego4dfs.prefetch import UNAVAILABLE, DatasetPlan, Item, Plan, Shard, Share
from ego4dfs.runtime.daemon_threads import map_parallel
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Comparison, Proof
from ego4dfs.text import folded

_OWN_NAMES = (MANIFEST, MANIFEST_VER, METADATA)
_THREADS = 4


class Verdict(enum.Enum):
    """The result for one file."""

    RIGHT = "right"
    SIZE_ONLY = "right by size"  # its ETag is not a checksum of its bytes
    DAMAGED = "damaged"
    MISSING = "missing"
    EXTRA = "extra"
    STALE = "of another release"  # recorded by prefetch, and not in the manifest any more
    ABSENT = "not on S3"
    UNKNOWN = "unknown"


BROKEN = (Verdict.DAMAGED, Verdict.MISSING)
FINE = (Verdict.RIGHT, Verdict.SIZE_ONLY)


@dataclass(frozen=True, slots=True)
class Finding:
    """One file by its path below the root, its verdict, and the reason."""

    path: str
    verdict: Verdict
    reason: str = ""


class Compared(NamedTuple):
    """One file by its path: its bytes compared with an ETag, or what needs no comparison."""

    path: str
    found: Comparison | Finding


Compare = Callable[[Sequence[Item]], list[Compared]]
"""Compares files with the facts of their objects: `compare_items` for a root, or a cluster."""


def compare_items(root: Path, items: Sequence[Item]) -> list[Compared]:
    """Read each file below `root` and compare it; return the results in order."""
    return map_parallel(partial(_compare_item, root), items, threads=_THREADS, name="verify")


def check_plan(
    layout: Layout,
    plan: Plan,
    listings: Iterable[Listing],
    journal: Journal,
    release: str,
    compare: Compare | None = None,
) -> list[Finding]:
    """Check every file of a plan, and find files that no row of these manifests lists.

    Those of them that prefetch fetched as part of another release, and that are unchanged since,
    are stale. Files are read by `compare`, else by this process.
    """
    compare = compare or partial(compare_items, layout.root)
    findings = _judge(list(plan.items), compare, journal)
    for listing in listings:
        entries = listing.manifest.entries
        names = disk_names(layout, listing.dataset, entries, writable=journal.writable)
        on_disk = with_disk_names(entries, names)
        listed = (layout.relative(listing.dataset, entry.name) for entry in on_disk)
        records = dict(journal.records(layout.relative_directory(listing.dataset)))
        for extra in extras(layout, [listing.dataset], listed):
            record = records.get(extra.path)
            if record and record.release != release and _is_unchanged(layout, extra, record):
                findings.append(_stale(extra, record))
            else:
                findings.append(extra)
    return findings


def prune(layout: Layout, journal: Journal, findings: Iterable[Finding]) -> list[Finding]:
    """Remove the copies of another release, and their records.

    Returns the findings whose files were removed. Raises OSError.
    """
    stale = [finding for finding in findings if finding.verdict is Verdict.STALE]
    by_directory: dict[str, list[str]] = {}
    folders = Folders(layout.root)
    try:
        for finding in stale:
            directory, _, name = finding.path.rpartition("/")
            folders.folder(directory).remove(name)
            by_directory.setdefault(directory, []).append(name)
        journal.remove(finding.path for finding in stale)
        for directory, names in by_directory.items():
            versions = VersionFile(layout.root / directory)
            versions.remove(names)
            versions.save(folders.folder(directory))
    finally:
        folders.close()
    return stale


def check_journal(
    layout: Layout,
    journal: Journal,
    datasets: Sequence[str],
    admitted: Mapping[str, Collection[str]] | None = None,
    shard: Shard | None = None,
    compare: Compare | None = None,
) -> tuple[list[Finding], Share | None]:
    """Check every file that the journal has in these datasets, without a request.

    An empty name stands for the directory of the version, which has its ego4d.json.
    With `admitted`, which has file names by dataset, only these files are checked. With `shard`
    only that part of them is, and what it is of the whole is returned too; the first part finds the
    files without a record. Files are read by `compare`, else by this process.
    """
    known: dict[str, Record] = {}
    recorded: set[str] = set()
    for dataset in datasets:
        directory = layout.relative_directory(dataset)
        for path, record in journal.records(directory):
            recorded.add(path)
            name = path.rpartition("/")[2]
            if admitted is None or not dataset or name in admitted[dataset]:
                known[path] = record
    share = None
    if shard is not None:
        path = layout.relative("", METADATA)
        first = {path: known.pop(path)} if path in known else {}  # the first part checks it
        files = [(record.url, record.facts.size) for record in known.values()]
        own, share = shard.share_of(files, dict(files))
        known = {path: record for path, record in known.items() if record.url in own}
        known.update(first if shard.index == 0 else {})
    compare = compare or partial(compare_items, layout.root)
    items = [_recorded(path, record) for path, record in known.items()]
    findings = _judge(items, compare, journal)
    if shard is None or shard.index == 0:
        findings += extras(layout, filter(None, datasets), recorded)
    return findings, share


class Below(NamedTuple):
    """The datasets in a directory of copies, and why other directories are not checked."""

    datasets: tuple[str, ...]
    skipped: dict[str, str]
    unreadable: dict[str, OSError]


def datasets_below(layout: Layout) -> Below:
    """Find the datasets that have a directory of copies: those with a manifest.csv.

    Links to directories are followed. Hidden directories are not datasets, and are not reported.
    """
    version = layout.dataset("")
    seen: set[tuple[int, int]] = set()
    found: list[str] = []
    skipped: dict[str, str] = {}
    unreadable: dict[str, OSError] = {}
    on_error = partial(_note_unreadable, version, unreadable)
    for directory, below, files in os.walk(version, onerror=on_error, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a directory that was visited
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        name = str(Path(directory).relative_to(version))
        if name == ".":
            paths = (Path(directory) / file for file in files)
            broken = (path for path in paths if path.is_symlink() and not path.exists())
            skipped |= {path.name: "a link to a missing file" for path in broken}
        elif MANIFEST in files:
            found.append(name)
        elif files:
            skipped[name] = f"it has no {MANIFEST}"
    return Below(tuple(sorted(found)), skipped, unreadable)


def _note_unreadable(version: Path, unreadable: dict[str, OSError], error: OSError) -> None:
    """Record a directory that exists and cannot be read."""
    if error.errno != errno.ENOENT:
        name = str(Path(error.filename).relative_to(version))
        unreadable["" if name == "." else name] = error


def to_repair(plan: Plan, findings: Iterable[Finding]) -> Plan:
    """Return the plan that fetches only damaged and missing files."""
    broken = {finding.path for finding in findings if finding.verdict in BROKEN}
    return Plan(
        [
            DatasetPlan(
                dataset.dataset,
                dataset.rows,
                [replace(i, state=State.FETCH) for i in dataset.items if i.path in broken],
            )
            for dataset in plan.datasets
        ]
    )


def renewed(plan: Plan, peek: Callable[[str], ObjectFacts | None]) -> Plan:
    """Return the same plan with the current facts of its objects."""
    datasets = (
        replace(d, items=[_renewed(i, peek(i.url)) for i in d.items]) for d in plan.datasets
    )
    return replace(plan, datasets=list(datasets))


def extras(layout: Layout, datasets: Iterable[str], known: Iterable[str]) -> list[Finding]:
    """Return the files in the directories of datasets that are not expected there."""
    expected = frozenset(known)
    found = [path for dataset in datasets for path in _files(layout, dataset)]
    unexpected = [path for path in found if path not in expected]
    by_key = {folded(path): path for path in expected} if unexpected else {}
    reason = "no manifest row and no record names it; it is left unchanged"
    return [
        Finding(path, Verdict.EXTRA, reason)
        for path in unexpected
        if not _is_same_file(layout.root, path, by_key.get(folded(path)))
    ]


def _is_same_file(root: Path, listed: str, expected: str | None) -> bool:
    """Return whether the disk lists a file under another spelling than the expected one."""
    try:
        return expected is not None and (root / expected).samefile(root / listed)
    except OSError:
        return False


def _renewed(item: Item, facts: ObjectFacts | None) -> Item:
    return replace(item, facts=facts) if facts is not None else item


def _stale(extra: Finding, record: Record) -> Finding:
    reason = f"fetched as part of {record.release}; --prune removes it"
    return replace(extra, verdict=Verdict.STALE, reason=reason)


def _is_unchanged(layout: Layout, extra: Finding, record: Record) -> bool:
    found = (layout.root / extra.path).stat()
    return is_as_recorded(FileState(found.st_size, found.st_mtime_ns), record)


def _files(layout: Layout, dataset: str) -> Iterator[str]:
    directory = layout.dataset(dataset)
    if not directory.is_dir():
        return
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            unfinished = entry.name.startswith(".") or entry.name.endswith(".part")
            if entry.is_file() and entry.name not in _OWN_NAMES and not unfinished:
                yield layout.relative(dataset, entry.name)


def _judge(items: Sequence[Item], compare: Compare, journal: Journal) -> list[Finding]:
    """Return the finding of each file; a file that agrees is evidence about the others."""
    etags = BucketEtags(journal)
    compared = [one.found for one in compare(items)]
    for item, found in zip(items, compared, strict=True):
        if isinstance(found, Comparison):
            etags.note(item.url, found)
    return [_finding(etags, *one) for one in zip(items, compared, strict=True)]


def _finding(etags: BucketEtags, item: Item, found: Comparison | Finding) -> Finding:
    facts = item.facts
    if isinstance(found, Finding) or facts is None:
        return cast("Finding", found)  # without facts nothing was compared
    proof = etags.proof(item.url, facts.size, facts.etag, found)
    if proof is Proof.WRONG:
        reason = f"MD5 {found.found}" if found.found else "another checksum of parts"
        reason = f"has {reason} where the object has {facts.etag}"
        return Finding(item.path, Verdict.DAMAGED, reason)
    return Finding(item.path, Verdict.RIGHT if proof is Proof.RIGHT else Verdict.SIZE_ONLY)


def _compare_item(root: Path, item: Item) -> Compared:
    if item.state in UNAVAILABLE:
        found: Comparison | Finding = Finding(item.path, Verdict.ABSENT, item.reason)
    elif item.facts is None:
        verdict = Verdict.UNKNOWN if (root / item.path).is_file() else Verdict.MISSING
        found = Finding(item.path, verdict, "its size and ETag cannot be requested now")
    else:
        found = _compare(root / item.path, item.path, item.facts)
    return Compared(item.path, found)


def _recorded(path: str, record: Record) -> Item:
    """Return the file of a record as an item of a plan."""
    directory, _, name = path.rpartition("/")
    return Item(directory, name, "", "", record.url, record.facts, State.RIGHT)


def _compare(file: Path, path: str, facts: ObjectFacts) -> Comparison | Finding:
    try:
        size = file.stat().st_size
        if size != facts.size:
            found = f"has {size} bytes where the object has {facts.size}"
            return Finding(path, Verdict.DAMAGED, found)
        return compare_file(file, facts.size, facts.etag)
    except (FileNotFoundError, NotADirectoryError):
        return Finding(path, Verdict.MISSING)
    except OSError as error:
        return Finding(path, Verdict.DAMAGED, f"cannot be read: {error.strerror}")
