"""The plan: for each selected file whether it is complete, to be fetched, or unavailable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ego4dfs.copies import State
from ego4dfs.prefetch.expected_sizes import ExpectedSizes
from ego4dfs.store import ObjectFacts

SMALL_BYTES = 1 << 20
"""The maximum size of a small file, which one request fetches."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file: `name` in `directory` below the root, and its object's facts if they are known.

    `is_ours`: an existing file of this name was written by ego4dfs or the official tool.
    `size_suffices`: an ETag that proves nothing does not make the file wrong. `checksum`: how an
    existing file was proved to be the object, if it was read for that. `ranges` are the bytes that
    are wanted, in whole parts of the cache; None means all of them.
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
    size_suffices: bool = False
    checksum: str = ""
    ranges: tuple[range, ...] | None = None

    @property
    def path(self) -> str:
        """The file's path below the root."""
        return f"{self.directory}/{self.name}"  # computed on demand: a plan has many items

    @property
    def size(self) -> int:
        """How many bytes are wanted, as far as they are known."""
        if self.ranges is not None:
            return sum(map(len, self.ranges))
        return self.object_size

    @property
    def is_unsized(self) -> bool:
        """Whether it is to be fetched and its size is unknown."""
        return self.facts is None and self.state in TO_FETCH

    @property
    def object_size(self) -> int:
        """The bytes of the whole object, as far as they are known."""
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

    def expected_sizes(self) -> ExpectedSizes:
        """Return what the files to fetch whose size is unknown are expected to have."""
        known = [item.object_size for item in self.items if item.facts is not None]
        return ExpectedSizes(known, sum(item.is_unsized for item in self.items))


TO_FETCH = (State.FETCH, State.CHECK)
COMPLETE = (State.RIGHT, State.ADOPT)
UNAVAILABLE = (State.MISSING, State.REFUSED)


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a selection: part `index` of `count`, counted from 0.

    It has `files` with `bytes`, as far as sizes are known, of the `all_files` with `all_bytes`,
    without ego4d.json, which is not divided.
    `digest` is equal on two machines if they split the same selection in the same way.
    """

    index: int
    count: int
    files: int
    bytes: int
    all_files: int
    all_bytes: int
    digest: str

    @property
    def name(self) -> str:
        """The part in words."""
        return f"shard {self.index} of {self.count}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The datasets in the order of the command; `partial_bytes` of unfinished files are on disk."""

    datasets: Sequence[DatasetPlan]
    partial_bytes: int = 0
    unsized: int = 0
    """Number of files to fetch whose size is unknown."""
    share: Share | None = None
    """Which part of the selection this is; None if it is all of it."""
    is_sampled: bool = False
    """Whether files of unknown size are in datasets of which a sample of files was small."""

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

    @property
    def expected_bytes(self) -> int:
        """The bytes that the files to fetch of unknown size are expected to have, by a sample."""
        if not self.is_sampled:
            return 0
        return sum(dataset.expected_sizes().expected_bytes for dataset in self.datasets)
