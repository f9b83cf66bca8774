"""Are the copies on disk what they should be? Read whole, and compared with the facts.

What should be there comes from the manifests, as for prefetch, or from prefetch's journal alone.
A size is always compared, and the bytes wherever the ETag is a checksum of them.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ego4dfs.prefetch import NOT_TO_BE_HAD, DatasetPlan, Item, Journal, Layout, Plan, State
from ego4dfs.prefetch.checksum import Proof, prove
from ego4dfs.store import ObjectFacts

_OWN_NAMES = ("manifest.csv", "manifest.ver", "ego4d.json")
_THREADS = 4


class Verdict(enum.Enum):
    """How one file is."""

    RIGHT = "right"
    SIZE_ONLY = "right by size"  # its ETag is no checksum of its bytes
    DAMAGED = "damaged"
    MISSING = "missing"
    EXTRA = "extra"
    ABSENT = "not on S3"
    UNKNOWN = "unknown"


BROKEN = (Verdict.DAMAGED, Verdict.MISSING)


@dataclass(frozen=True, slots=True)
class Finding:
    """One file by its path below the root, how it is, and why."""

    path: str
    verdict: Verdict
    reason: str = ""


def check_plan(layout: Layout, plan: Plan) -> list[Finding]:
    """Look at every file of a plan, and for files that none of its datasets lists."""
    items = list(plan.items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
        findings = list(pool.map(partial(_check_item, layout.root), items))
    datasets = [dataset.dataset for dataset in plan.datasets if dataset.dataset]
    return findings + extras(layout, datasets, (item.path for item in items))


def check_journal(layout: Layout, journal: Journal, datasets: Sequence[str]) -> list[Finding]:
    """Look at every file that the journal has in these datasets, without a request."""
    known: dict[str, ObjectFacts] = {}
    for dataset in datasets:
        directory = layout.relative_directory(dataset)
        records = journal.records(directory)
        known |= {
            path: record.facts
            for path, record in records.items()
            if path.rpartition("/")[0] == directory
        }
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
        findings = list(pool.map(partial(_check, layout.root), known, known.values()))
    return findings + extras(layout, datasets, known)


def datasets_below(layout: Layout) -> tuple[str, ...]:
    """Return the datasets that have a directory of copies: those with a manifest.csv."""
    version = layout.dataset("")
    found = version.rglob("manifest.csv") if version.is_dir() else ()
    return tuple(sorted(str(path.parent.relative_to(version)) for path in found))


def to_repair(plan: Plan, findings: Iterable[Finding]) -> Plan:
    """Return the plan that fetches what is damaged or missing, and nothing else."""
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


def extras(layout: Layout, datasets: Iterable[str], known: Iterable[str]) -> list[Finding]:
    """Return the files in the directories of datasets that nothing accounts for."""
    expected = frozenset(known)
    return [
        Finding(path, Verdict.EXTRA, "no row and no record names it; left alone")
        for dataset in datasets
        for path in _files(layout, dataset)
        if path not in expected
    ]


def _files(layout: Layout, dataset: str) -> Iterator[str]:
    directory = layout.dataset(dataset)
    if not directory.is_dir():
        return
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            unfinished = entry.name.startswith(".") or entry.name.endswith(".part")
            if entry.is_file() and entry.name not in _OWN_NAMES and not unfinished:
                yield layout.relative(dataset, entry.name)


def _check_item(root: Path, item: Item) -> Finding:
    if item.state in NOT_TO_BE_HAD:
        return Finding(item.path, Verdict.ABSENT, item.reason)
    if item.facts is None:
        there = (root / item.path).is_file()
        reason = "what it should be cannot be asked now"
        return Finding(item.path, Verdict.UNKNOWN if there else Verdict.MISSING, reason)
    return _check(root, item.path, item.facts)


def _check(root: Path, path: str, facts: ObjectFacts) -> Finding:
    file = root / path
    try:
        size = file.stat().st_size
        if size != facts.size:
            found = f"has {size} bytes where the object has {facts.size}"
            return Finding(path, Verdict.DAMAGED, found)
        proof, found = prove(file, facts.size, facts.etag)
    except FileNotFoundError:
        return Finding(path, Verdict.MISSING)
    except OSError as error:
        return Finding(path, Verdict.DAMAGED, f"cannot be read: {error.strerror}")
    if proof is Proof.WRONG:
        return Finding(path, Verdict.DAMAGED, f"has MD5 {found} where the object has {facts.etag}")
    return Finding(path, Verdict.RIGHT if proof is Proof.RIGHT else Verdict.SIZE_ONLY)
