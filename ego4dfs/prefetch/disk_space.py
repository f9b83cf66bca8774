"""Free space of each disk that a plan writes to: datasets' directories may be on other disks."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ego4dfs.copies import Layout
from ego4dfs.errors import OutputError
from ego4dfs.prefetch.disk_errors import is_of_own_disk
from ego4dfs.prefetch.plan import TO_FETCH, Plan
from ego4dfs.text import distinct_sizes, human_size

_HINT = "free some space, select less, or use `ego4dfs mount`, which needs a small cache only"


@dataclass(slots=True)
class DiskSpace:
    """One disk: a directory on it, the datasets that are written to it, and its free space.

    `free_bytes` is None where the filesystem does not say. `needed_bytes` are also those of
    ego4d.json, which belongs to no dataset: it fails alone. `expected_bytes` are those of files
    whose size is unknown.
    """

    directory: str
    free_bytes: int | None
    needed_bytes: int = 0
    datasets: tuple[str, ...] = ()
    expected_bytes: int = 0

    @property
    def lacks_space(self) -> bool:
        """Whether the files of the plan do not fit."""
        return self.free_bytes is not None and self.needed_bytes > self.free_bytes

    @property
    def may_lack_space(self) -> bool:
        """Whether unknown sizes decide if the files fit: they do at twice the expected bytes."""
        if self.free_bytes is None or not self.expected_bytes:
            return False
        return self.needed_bytes + 2 * self.expected_bytes > self.free_bytes

    @property
    def room(self) -> str:
        """The free space, for people."""
        if self.free_bytes is None:
            return "free disk space is unknown"
        return f"{human_size(self.free_bytes)} are free"

    def error(self) -> OutputError:
        """Return the error that says how much space is missing."""
        needed, free = distinct_sizes(self.needed_bytes, self.free_bytes or 0)
        names = f" for {' '.join(self.datasets)}" if len(self.datasets) > 1 else ""
        reason = f"{needed} are needed{names}, and {free} are free"
        return OutputError(f"{self.directory}: {reason}", hint=_HINT)

    def errors(self) -> dict[str, OSError]:
        """Return for each dataset on it the error that its files would have."""
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.directory)
        return dict.fromkeys(self.datasets, error)


def disks_of(plan: Plan, layout: Layout, partial: Mapping[str, int]) -> list[DiskSpace]:
    """Return the disk of the root, and the others that files are written to.

    `partial` has the bytes of unfinished files that are on disk already. A dataset whose directory
    cannot be read is left out: its files fail when they are written. Raises OutputError.
    """
    found = {layout.device(): DiskSpace(str(layout.root), layout.free_bytes())}
    for dataset in plan.datasets:
        items = [item for item in dataset.items if item.state in TO_FETCH]
        if not items:
            continue
        where = layout.relative_directory(dataset.dataset)
        try:
            device, free = layout.device(where), layout.free_bytes(where)
        except OutputError:
            continue
        disk = found.setdefault(device, DiskSpace(str(layout.root / where), free))
        disk.needed_bytes += sum(max(0, i.size - partial.get(i.path, 0)) for i in items)
        if plan.is_sampled:
            disk.expected_bytes += dataset.expected_sizes().expected_bytes
        if dataset.dataset:
            disk.datasets += (dataset.dataset,)
    return list(found.values())


def check_room(layout: Layout, directory: str, expected_bytes: int) -> None:
    """Raise OutputError if so many bytes do not fit into a directory, or OSError of its own disk.

    The disk of the root ends a run; another one ends only what is written to it.
    """
    free = layout.free_bytes(directory)
    if free is None or expected_bytes <= free:
        return
    path = layout.root / directory
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if is_of_own_disk(full, path, layout.root):
        raise full
    needed, left = distinct_sizes(expected_bytes, free)
    raise OutputError(f"{path}: about {needed} more are needed, and {left} are free", hint=_HINT)


def room_on(disks: Sequence[DiskSpace]) -> str:
    """Return the free space of all disks, for people."""
    first, *others = disks
    return "; ".join([first.room, *(f"{disk.room} in {disk.directory}" for disk in others)])


def without_space(disks: Sequence[DiskSpace]) -> list[DiskSpace]:
    """Return the disks on which datasets of the plan do not fit; other disks can be filled.

    Raises OutputError if that is the disk of the root, or if no dataset is on another one.
    """
    if disks[0].lacks_space:
        raise disks[0].error()
    written = [disk for disk in disks if disk.datasets]
    full = [disk for disk in written if disk.lacks_space]
    if full and full == written:
        raise full[0].error()
    return full
