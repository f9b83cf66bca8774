"""The selections of all runs into a directory of copies: only selected files can be missing.

`<root>/.ego4dfs/selections.json`: for each release and dataset `null`, for all of it, or a list of
names. Only the process that holds the journal writes it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ego4dfs.catalog import Listing
from ego4dfs.copies import Journal, Layout
from ego4dfs.copies.name_collisions import disk_names
from ego4dfs.datasets import METADATA
from ego4dfs.files import read_regular, write_atomic

NAME = "selections.json"

log = logging.getLogger(__name__)

_Names = set[str] | None


class Selections:
    """The union of the selections of all runs; one that cannot be read counts as unknown."""

    def __init__(self, state: Path) -> None:
        """Read the selections that are recorded in the directory `state`."""
        self._path = state / NAME
        self._known: dict[tuple[str, str], _Names] = {}
        self.is_readable = True
        try:
            self._known = _parsed(json.loads(read_regular(self._path)[0]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            self.is_readable = False
            _report(self._path, str(error))

    def add(self, release: str, dataset: str, names: Iterable[str] | None) -> None:
        """Record that these files of a dataset are selected, or all with None."""
        key = (release, dataset)
        before = self._known.get(key, set())
        self._known[key] = None if names is None or before is None else before | set(names)

    def admits(self, release: str, dataset: str) -> Callable[[str], bool] | None:
        """Return a predicate of selected names; None if no run selected any of the dataset."""
        if (release, dataset) not in self._known:
            return None
        names = self._known[release, dataset]
        return (lambda _name: True) if names is None else names.__contains__

    def datasets(self, release: str) -> frozenset[str]:
        """Return the datasets of which a run selected files."""
        return frozenset(
            dataset
            for (of_release, dataset), names in self._known.items()
            if of_release == release and dataset and (names is None or names)
        )

    def save(self) -> None:
        """Write the file atomically. Raises OSError."""
        document: dict[str, dict[str, list[str] | None]] = {}
        for (release, dataset), names in sorted(self._known.items()):
            listed = None if names is None else sorted(names)
            document.setdefault(release, {})[dataset] = listed
        write_atomic(self._path, f"{json.dumps(document, indent=1)}\n".encode(), is_shared=True)


@lru_cache(maxsize=1024)
def _report(path: Path, reason: str) -> None:
    log.warning("%s cannot be read, so what was selected is not known: %s", path, reason)


def _parsed(document: dict[str, dict[str, list[str] | None]]) -> dict[tuple[str, str], _Names]:
    return {
        (release, dataset): None if names is None else _names(names)
        for release, datasets in document.items()
        for dataset, names in datasets.items()
    }


def _names(names: object) -> set[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{names!r} are not names")
    return set(names)


class Expected:
    """Which files of a release should exist, if no selection is given.

    They are the files that a run selected or fetched, and the files on disk. `unknown` are the
    datasets of which no run selected anything: only their fetched files can be missing.
    """

    def __init__(self, layout: Layout, journal: Journal, release: str) -> None:
        """Read the recorded selections of `release`."""
        self._layout = layout
        self._journal = journal
        self._release = release
        self._selections = Selections(layout.state)
        self._partial = journal.partial_bytes()
        self.unknown: list[str] = []

    @property
    def has_selections(self) -> bool:
        """Whether the recorded selections could be read; there may be none."""
        return self._selections.is_readable

    def of(self, listing: Listing, *, is_named: bool) -> Listing:
        """Return a listing without the files that no run selected.

        A dataset that is named, and has no recorded selection, is expected completely.
        """
        dataset = listing.dataset
        admits = self._selections.admits(self._release, dataset)
        if admits is None:
            if is_named:
                return listing
            self.unknown.append(dataset)
        directory = self._layout.relative_directory(dataset)
        records = self._journal.records(directory)
        fetched = {path for path, record in records if record.release == self._release}
        present = _names_in(self._layout.dataset(dataset))
        writable = self._journal.writable
        renamed = disk_names(self._layout, dataset, listing.manifest.entries, writable=writable)
        entries = tuple(
            entry
            for entry in listing.entries
            if (name := renamed.get(entry.name, entry.name)) in present
            or (admits is not None and admits(name))
            or (path := f"{directory}/{name}") in fetched
            or path in self._partial
        )
        return replace(listing, entries=entries)

    def has_metadata(self) -> bool:
        """Return whether ego4d.json should exist."""
        if self._selections.admits(self._release, "") is not None:
            return True
        path = self._layout.relative("", METADATA)
        records = self._journal.records(self._layout.relative_directory(""))
        is_fetched = any(p == path and r.release == self._release for p, r in records)
        return is_fetched or METADATA in _names_in(self._layout.dataset(""))


def _names_in(directory: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
