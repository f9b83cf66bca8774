"""The plan: for each selected file whether it is right on disk, has to come, or cannot be had."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ego4dfs.catalog import Listing
from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts import FactsIndex
from ego4dfs.manifest import Entry
from ego4dfs.prefetch.journal import Journal, Record
from ego4dfs.prefetch.layout import METADATA, Layout
from ego4dfs.prefetch.versions import VersionFile
from ego4dfs.store import ObjectFacts

REFUSAL_KEPT_S = 60.0
"""How long an object counts as refused without another request: two runs in a row, no longer."""

_HEADS_AT_ONCE = 2000
_VAIN = 8


class State(enum.Enum):
    """What has to be done about one file."""

    RIGHT = "there"
    ADOPT = "adopt"  # right by the official tool's record, which has no ETag: ours is to be made
    CHECK = "check"  # of the right size, and nothing says of which version
    FETCH = "fetch"
    MISSING = "missing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Item:
    """One file: `name` in `directory` below the root, and its object's facts if they are known.

    `is_ours` tells that a file under this name was written by this or the official tool;
    `lenient` that it may pass by its size if its ETag proves nothing.
    """

    directory: str
    name: str
    dataset: str
    uid: str
    url: str
    facts: ObjectFacts | None
    state: State
    reason: str = ""
    is_ours: bool = True
    lenient: bool = False

    @property
    def path(self) -> str:
        """The file's path below the root."""
        return f"{self.directory}/{self.name}"  # made when asked for: a plan has many items

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return self.facts.size if self.facts else 0


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """The files of one dataset in the manifest's order; `rows` are those before selection."""

    dataset: str
    rows: int
    items: Sequence[Item]

    def count(self, *states: State) -> int:
        """Count the files in any of the states."""
        return sum(item.state in states for item in self.items)

    def bytes(self, *states: State) -> int:
        """Sum the known sizes of the files in any of the states."""
        return sum(item.size for item in self.items if item.state in states)


TO_GET = (State.FETCH, State.CHECK)
THERE = (State.RIGHT, State.ADOPT)
NOT_TO_BE_HAD = (State.MISSING, State.REFUSED)


@dataclass(frozen=True, slots=True)
class Plan:
    """The datasets in the order asked for; `begun_bytes` are on disk of copies under way."""

    datasets: Sequence[DatasetPlan]
    begun_bytes: int = 0
    unsized: int = 0
    """How many files are to come of which no size is known."""

    @property
    def items(self) -> Iterator[Item]:
        """All files, dataset by dataset."""
        return (item for dataset in self.datasets for item in dataset.items)

    def count(self, *states: State) -> int:
        """Count the files in any of the states."""
        return sum(dataset.count(*states) for dataset in self.datasets)

    def bytes(self, *states: State) -> int:
        """Sum the known sizes of the files in any of the states."""
        return sum(dataset.bytes(*states) for dataset in self.datasets)


@dataclass(slots=True)
class Planner:
    """Makes plans from what manifests list, what objects weigh and what the disk holds.

    `skip_checks` asks the store for no facts; `bypass` lets a file count by its presence.
    `on_facts` hears how many objects of how many were asked for.
    """

    layout: Layout
    facts: FactsIndex
    journal: Journal
    source: str
    skip_checks: bool = False
    bypass: bool = False
    on_facts: Callable[[int, int], None] = field(default=lambda _done, _total: None)

    def plan(self, listings: Iterable[Listing], *, metadata_url: str = "") -> Plan:
        """Return the plan of these datasets, and of ego4d.json if its URL is given.

        Raises CredentialsRejected when the key is refused, and StoreUnavailable when nothing
        answers any more; a refusal of one object is its own state.
        """
        begun = self.journal.begun_bytes()
        datasets = [self._metadata(metadata_url)] if metadata_url else []
        for listing in listings:
            items = self._items(listing.dataset, listing.entries)
            datasets.append(DatasetPlan(listing.dataset, len(listing.manifest.entries), items))
        to_get = [item for d in datasets for item in d.items if item.state in TO_GET]
        return Plan(
            datasets,
            begun_bytes=sum(min(begun.get(item.path, 0), item.size) for item in to_get),
            unsized=sum(item.facts is None for item in to_get),
        )

    def _metadata(self, url: str) -> DatasetPlan:
        """Plan ego4d.json; as it changes within a version, its facts are asked for each time."""
        kept = self.facts.peek(url)
        if not self.skip_checks:
            self.facts.forget(url)
            try:
                self.facts.get(url, refusal_kept_s=REFUSAL_KEPT_S)
            except StoreUnavailable:
                if kept is None:
                    raise
                self.facts.learn(url, kept)
            except CredentialsRejected:
                raise
            except StoreError:
                pass  # its state will tell
        nothing: frozenset[str] = frozenset()
        entry = Entry(0, METADATA, "", url, nothing, None, nothing, "")
        items = [replace(item, is_ours=True) for item in self._items("", [entry])]
        return DatasetPlan("", 1, items)

    def _items(self, dataset: str, entries: Sequence[Entry]) -> list[Item]:
        here = _Here.look(self.layout, self.journal, dataset)
        known: dict[str, ObjectFacts | StoreError] = {}
        for entry in entries:
            facts = self._known(entry, here)
            if facts is not None:
                known[entry.url] = facts
        if not self.skip_checks:
            wanted = (e for e in entries if e.url not in known)
            self._ask([e.url for e in wanted if not (self.bypass and e.name in here.sizes)], known)
        return [self._item(entry, here, known.get(entry.url)) for entry in entries]

    def _known(self, entry: Entry, here: _Here) -> ObjectFacts | None:
        """Return facts without a request: of the index, else of the copy's own record.

        Not when the official tool's record tells of another version: it may be the newer one.
        """
        facts = self.facts.peek(entry.url)
        record = here.record(entry.name)
        row = here.versions.get(entry.uid, entry.name)
        if facts and row and row.version not in ("", facts.version_id) and not self.skip_checks:
            self.facts.forget(entry.url)
            return None
        if facts is None and record and (record.url, record.source) == (entry.url, self.source):
            facts = record.facts
            self.facts.learn(entry.url, facts)
        if record and (record.url, record.facts) == (entry.url, facts):
            here.share(entry, record, record.facts if facts is None else facts)
        return facts

    def _ask(self, urls: list[str], known: dict[str, ObjectFacts | StoreError]) -> None:
        vain = 0
        for first in range(0, len(urls), _HEADS_AT_ONCE):
            some = urls[first : first + _HEADS_AT_ONCE]
            self.facts.sweep(some)
            for url in some:
                answer = self._answer(url)
                vain = vain + 1 if isinstance(answer, StoreUnavailable) else 0
                if isinstance(answer, StoreUnavailable) and vain >= min(_VAIN, len(urls)):
                    raise answer
                known[url] = answer
            self.on_facts(first + len(some), len(urls))

    def _answer(self, url: str) -> ObjectFacts | StoreError:
        try:
            return self.facts.get(url, refusal_kept_s=REFUSAL_KEPT_S)
        except CredentialsRejected:
            raise
        except StoreError as error:
            return error

    def _item(self, entry: Entry, here: _Here, known: ObjectFacts | StoreError | None) -> Item:
        item = (here.prefix, entry.name, here.dataset, entry.uid, entry.url)
        if isinstance(known, (AccessDenied, ObjectMissing)):
            state = State.MISSING if isinstance(known, ObjectMissing) else State.REFUSED
            return Item(*item, None, state, str(known))
        facts = known if isinstance(known, ObjectFacts) else None
        state, is_ours, lenient = self._state(entry, here, facts)
        return Item(*item, facts, state, is_ours=is_ours, lenient=lenient)

    def _state(
        self, entry: Entry, here: _Here, facts: ObjectFacts | None
    ) -> tuple[State, bool, bool]:
        """Return the state, whose the file is, and whether its size alone may do."""
        size, mtime_ns = here.sizes.get(entry.name, (-1, 0))
        record, row = here.record(entry.name), here.versions.get(entry.uid, entry.name)
        dated = facts is not None and _is_same_time(mtime_ns, facts.mtime_ns)
        is_ours = record is not None or row is not None or dated
        if size < 0:
            return State.FETCH, is_ours, False
        if record and (record.url, record.facts.size) == (entry.url, size):
            same = facts is None or facts.etag == record.facts.etag
            if same and _is_same_time(mtime_ns, record.facts.mtime_ns):
                return State.RIGHT, True, False
        if facts is not None and facts.size != size:
            return State.FETCH, is_ours, False
        if self.bypass:
            return State.RIGHT, is_ours, False
        if facts is not None and row and row.version and facts.version_id:
            right = row.version == facts.version_id
            return (State.ADOPT if right else State.FETCH), True, False
        return State.CHECK, is_ours, is_ours


@dataclass(frozen=True, slots=True)
class _Here:
    """What one dataset's directory holds, and what is recorded about it."""

    dataset: str
    prefix: str
    sizes: dict[str, tuple[int, int]]
    records: dict[str, Record]
    versions: VersionFile

    @classmethod
    def look(cls, layout: Layout, journal: Journal, dataset: str) -> _Here:
        directory = layout.dataset(dataset)
        sizes: dict[str, tuple[int, int]] = {}
        if directory.is_dir():
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_file():
                        status = entry.stat()
                        sizes[entry.name] = (status.st_size, status.st_mtime_ns)
        prefix = layout.relative_directory(dataset)
        return cls(dataset, prefix, sizes, journal.records(prefix), VersionFile(directory))

    def record(self, name: str) -> Record | None:
        return self.records.get(f"{self.prefix}/{name}")

    def share(self, entry: Entry, record: Record, facts: ObjectFacts) -> None:
        """Let a record hold the objects that others hold anyway: there may be 100,000."""
        same = replace(record, url=entry.url, facts=facts)
        self.records[f"{self.prefix}/{entry.name}"] = same


def _is_same_time(one_ns: int, other_ns: int) -> bool:
    """Tell whether two times are the same to filesystems that keep them to two seconds."""
    return abs(one_ns - other_ns) < 2 * 10**9
