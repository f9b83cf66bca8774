"""The model of TreeMachine: a plain directory, and what a tree may return in place of it."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field
from pathlib import Path

from ego4dfs.testing.faces import DirectoryFace, PathStatus
from ego4dfs.testing.open_files import OpenFile, PageFaultError
from ego4dfs.testing.tree_under_test import Fault, TreeUnderTest


@dataclass
class ModelFile:
    """A file of the model: the bytes of all its versions, the last of which is current.

    `oldest` is the oldest version that an open may still return: a tree notices a replacement with
    the first read that fails, and then never goes back. `read` are the ranges that were read of a
    version since the last eviction.
    """

    versions: list[bytes] = field(default_factory=list)
    oldest: int = 0
    may_hide_size: bool = False
    may_falsify_size: bool = False
    read: set[tuple[int, int, int]] = field(default_factory=set)

    @property
    def current(self) -> bytes:
        """The bytes of the object in the store."""
        return self.versions[-1]


@dataclass(eq=False)
class ModelHandle:
    """An open file, and the versions that it may be of, by all that was read from it so far."""

    name: str
    opened: OpenFile
    versions: set[int]
    is_evicted: bool = False


class Model:
    """What a tree may return: the bytes of one version for each open file, or an excused error.

    `root` is a plain directory with the current files. An error is excused while a fault is
    started, for the time that the fault states after its end, and by a replacement.
    """

    def __init__(self, root: Path, tree: TreeUnderTest) -> None:
        """Begin without files in `root`, which exists."""
        self.face = DirectoryFace(root)
        self._root = root
        self._tree = tree
        self.files: dict[str, ModelFile] = {}
        self._faults: dict[str, Fault] = {}
        self._excused: dict[str, list[tuple[float, frozenset[int]]]] = {}
        self.is_key_expired = False

    @property
    def is_faulty(self) -> bool:
        """Whether a fault was started and not ended."""
        return bool(self._faults)

    def put(self, name: str, data: bytes) -> None:
        """Put or replace a file."""
        self.files.setdefault(name, ModelFile()).versions.append(data)
        new = self._root / "new"
        new.write_bytes(data)
        new.rename(self._root / name)

    def start_fault(self, fault: Fault, name: str) -> None:
        """Expect a fault of one file; it replaces an earlier one."""
        self._end_fault(name)
        self._faults[name] = fault
        file = self.files[name]
        file.may_hide_size |= fault.hides_size
        file.may_falsify_size |= fault.falsifies_size

    def end_faults(self) -> None:
        """Expect no fault any more, except for errors that are remembered."""
        for name in list(self._faults):
            self._end_fault(name)

    def expire_keys(self) -> None:
        """Expect that requests are refused."""
        self.is_key_expired = True

    def renew_keys(self) -> None:
        """Expect no refusals of a key any more."""
        self.is_key_expired = False

    def evict(self) -> None:
        """Expect that nothing is cached."""
        for file in self.files.values():
            file.read.clear()

    def is_excused(self, name: str, error: OSError) -> bool:
        """Return whether a call that needs the store may fail in this way now.

        A page fault names no cause: any fault excuses it.
        """
        allowed = set(self._faults[name].errnos if name in self._faults else ())
        if self.is_key_expired:
            allowed.add(errno.EACCES)
        now_s = time.monotonic()
        for until_s, errnos in self._excused.get(name, ()):
            if now_s < until_s:
                allowed |= errnos
        return bool(allowed) if isinstance(error, PageFaultError) else error.errno in allowed

    def versions_at_open(self, name: str, *, size: int | None = None) -> set[int]:
        """Return the versions, of this size, that a file that is opened now may be of."""
        file = self.files[name]
        found = range(file.oldest, len(file.versions))
        return {v for v in found if size is None or len(file.versions[v]) == size}

    def confirm_size(self, name: str) -> None:
        """Expect true sizes from now on, because the file was opened."""
        if name not in self._faults:
            self.files[name].may_falsify_size = False

    def narrow(self, handle: ModelHandle, offset: int, size: int, data: bytes) -> None:
        """Keep the versions of which these are the bytes; none is left if they are wrong."""
        file = self.files[handle.name]
        handle.versions = {v for v in handle.versions if self._is_read(file, v, offset, size, data)}
        if data and handle.versions:
            file.oldest = max(file.oldest, min(handle.versions))
            if len(handle.versions) == 1:
                file.read.add((min(handle.versions), offset, offset + len(data)))

    def is_replaced(self, handle: ModelHandle) -> bool:
        """Return whether the object may have been replaced since the open."""
        file = self.files[handle.name]
        return any(file.versions[v] != file.current for v in handle.versions)

    def is_surely_replaced(self, handle: ModelHandle) -> bool:
        """Return whether the object was replaced since the open."""
        file = self.files[handle.name]
        return all(file.versions[v] != file.current for v in handle.versions)

    def notice_replacement(self, handle: ModelHandle) -> None:
        """Record that a read failed because of a replacement: the next open is of a later one."""
        file = self.files[handle.name]
        handle.versions = {v for v in handle.versions if file.versions[v] != file.current}
        file.oldest = max(file.oldest, min(handle.versions) + 1)

    def is_cached(self, handle: ModelHandle, offset: int, size: int) -> bool:
        """Return whether this range of the current version was read since the last eviction."""
        file = self.files[handle.name]
        current = len(file.versions) - 1
        if handle.versions != {current} or not size:
            return False
        stop = min(offset + size, len(file.current))
        return any(
            version == current and start <= offset and stop <= end
            for version, start, end in file.read
        )

    def is_possible(self, name: str, seen: PathStatus) -> bool:
        """Return whether a stat may report this."""
        file = self.files[name]
        first = 0 if self._tree.caches_attributes else file.oldest
        sizes = {len(data) for data in file.versions[first:]}
        is_unknown = file.may_hide_size and seen.size in {0, None}
        return not seen.is_dir and (seen.size in sizes or is_unknown or file.may_falsify_size)

    def _is_read(self, file: ModelFile, version: int, offset: int, size: int, data: bytes) -> bool:
        """Return whether a read of a version may return this."""
        content = file.versions[version]
        if content[offset : offset + size] == data:
            return True
        later = {len(data) for data in file.versions[version + 1 :]}
        return self._tree.shares_size and any(
            content[offset : min(offset + size, end)] == data for end in later
        )

    def _end_fault(self, name: str) -> None:
        fault = self._faults.pop(name, None)
        if fault is not None and fault.remembered_s:
            until_s = time.monotonic() + fault.remembered_s
            self._excused.setdefault(name, []).append((until_s, fault.errnos))
