"""TreeMachine: a Hypothesis state machine that compares a tree with a plain directory."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ego4dfs.testing.contract_release import content
from ego4dfs.testing.model import Model, ModelHandle
from ego4dfs.testing.open_files import PageFaultError, ReadByPath
from ego4dfs.testing.positions import lengths, numbers, offsets, sizes
from ego4dfs.testing.tree_under_test import TreeUnderTest

_MAX_OPEN = 8
_AT_ONCE = 4


class TreeMachine(RuleBasedStateMachine):
    """Opens, reads, lists and closes files while objects are replaced and the store fails.

    A subclass makes the tree: `make_tree` gets an empty directory, which is removed afterwards.
    Each step is compared with the Model; every violation of docs/concepts/semantics.md that it can
    see is an AssertionError. Calls that do not return are found by a time limit of the test.
    `outcomes` counts what all examples have seen.
    """

    outcomes: ClassVar[Counter[str]]

    def __init_subclass__(cls) -> None:
        """Count for each machine on its own."""
        super().__init_subclass__()
        cls.outcomes = Counter()

    def make_tree(self, directory: Path) -> TreeUnderTest:
        """Return a tree whose files have no objects yet."""
        raise NotImplementedError

    @initialize(first=st.lists(sizes, min_size=4, max_size=4), fault=st.none() | numbers)
    def start(self, first: Sequence[int], fault: int | None) -> None:
        """Make the tree and the model, half of the time with a fault of one file."""
        self._directory = Path(tempfile.mkdtemp(prefix="ego4dfs-model-"))
        (self._directory / "model").mkdir()
        (self._directory / "tree").mkdir()
        try:
            self._tree = self.make_tree(self._directory / "tree")
        except BaseException:
            shutil.rmtree(self._directory)
            raise
        self._model = Model(self._directory / "model", self._tree)
        self._handles: list[ModelHandle] = []
        self._remounts = 0
        for number, name in enumerate(self._tree.names):
            self._put(name, first[number % len(first)])
        if fault is not None:
            self._start_fault(fault, name=fault // len(self._tree.faults))

    @precondition(lambda self: len(self._handles) < _MAX_OPEN)
    @rule(name=numbers)
    def open(self, name: int) -> None:
        """Open a file; it is one of the versions that may be shown."""
        self._open(self._name(name))

    @precondition(lambda self: self._handles)
    @rule(number=numbers, reads=st.lists(st.tuples(numbers, offsets, lengths), min_size=1))
    def read(self, number: int, reads: Sequence[tuple[int, int, int]]) -> None:
        """Read from an open file in any ways."""
        for way, offset, length in reads:
            handle = self._handle(number)
            was_cached = self._model.is_cached(handle, offset, length)
            result = self._outcome(handle, way, offset, length)
            self._check_read(handle, offset, length, result, was_cached=was_cached)

    @precondition(lambda self: self._handles)
    @rule(
        reads=st.lists(st.tuples(numbers, numbers, offsets, lengths), min_size=2, max_size=_AT_ONCE)
    )
    def read_at_once(self, reads: Sequence[tuple[int, int, int, int]]) -> None:
        """Read from several open files in several threads; each way has a position of its own."""
        chosen = {self._handle(number): (way, at, size) for number, way, at, size in reads}
        cached = [self._model.is_cached(one, at, size) for one, (_, at, size) in chosen.items()]
        with ThreadPoolExecutor(len(chosen)) as pool:
            results = list(pool.map(lambda one: self._outcome(one, *chosen[one]), chosen))
        for (one, read), was_cached, result in zip(chosen.items(), cached, results, strict=True):
            self._check_read(one, read[1], read[2], result, was_cached=was_cached)

    @rule(name=numbers, offset=offsets, length=lengths)
    def open_read_and_close(self, name: int, offset: int, length: int) -> None:
        """Read from a file by its path."""
        path = self._name(name)
        opened = ReadByPath(self._tree.face.read, self._path(path))
        handle = ModelHandle(path, opened, self._model.versions_at_open(path))
        self._check_read(handle, offset, length, self._outcome(handle, 0, offset, length))

    @rule(name=numbers)
    def stat(self, name: int) -> None:
        """Compare the attributes of a file."""
        path = self._name(name)
        try:
            seen = self._tree.face.stat(self._path(path))
        except OSError as error:
            self._check_excused(path, error)
            return
        assert self._model.is_possible(path, seen), f"{path}: {seen}"

    @rule()
    def listdir(self) -> None:
        """Compare the names; no fault is an excuse."""
        names = self._tree.face.listdir(self._tree.directory)
        assert sorted(names) == sorted(["manifest.csv", *self._model.face.listdir("")])

    @rule(name=st.sampled_from(["none", "a.mp4/below", "none/below"]))
    def look_for_what_is_not_there(self, name: str) -> None:
        """Compare errors of paths with those of a plain directory.

        A kernel looks for the file first, which may need the store.
        """
        parent = name.partition("/")[0]
        for call in ("stat", "listdir", "open"):
            expected = _error(getattr(self._model.face, call), name)
            seen = _error(getattr(self._tree.face, call), self._path(name))
            is_excused = parent in self._tree.names and self._model.is_excused(parent, seen)
            assert is_excused or seen.errno == expected.errno, f"{call} {name}: {seen!r}"

    @precondition(lambda self: self._handles)
    @rule(number=numbers)
    def close(self, number: int) -> None:
        """Close an open file."""
        handle = self._handle(number)
        self._handles.remove(handle)
        handle.opened.close()

    @rule(name=numbers, size=st.none() | sizes)
    def replace(self, name: int, size: int | None) -> None:
        """Replace an object, often by one of the same size."""
        path = self._name(name)
        self._put(path, len(self._model.files[path].current) if size is None else size)

    @rule()
    def evict(self) -> None:
        """Empty the cache: from now on, old versions cannot be read."""
        is_empty = self._tree.evict()
        self._model.evict()
        for handle in self._handles if is_empty else ():
            handle.is_evicted = self._model.is_surely_replaced(handle)

    @precondition(lambda self: not self._model.is_faulty)
    @rule(number=numbers, name=numbers)
    def start_fault(self, number: int, name: int) -> None:
        """Let requests for one object fail."""
        self._start_fault(number, name)

    @precondition(lambda self: self._model.is_faulty)
    @rule()
    def end_faults(self) -> None:
        """End all faults."""
        self._tree.end_faults()
        self._model.end_faults()

    @precondition(lambda self: not self._model.is_key_expired)
    @rule()
    def expire_keys(self) -> None:
        """Let the key expire."""
        self._tree.expire_keys()
        self._model.expire_keys()

    @precondition(lambda self: self._model.is_key_expired)
    @rule()
    def renew_keys(self) -> None:
        """Provide another key."""
        self._tree.renew_keys()
        self._model.renew_keys()

    @precondition(lambda self: self._remounts < self._tree.max_remounts)
    @rule()
    def remount(self) -> None:
        """Close all files and the tree, and open it again, also while the store fails."""
        self._close_files()
        self._tree.remount()
        self._remounts += 1
        self.outcomes["remounts"] += 1

    def teardown(self) -> None:
        """End all faults: each file can be read whole; then close and remove everything."""
        if not hasattr(self, "_handles"):
            return
        try:
            self.end_faults()
            self.renew_keys()
            self._close_files()
            for name in self._tree.names:
                self._read_whole(name)
        finally:
            self._close_files()
            self._tree.close()
            shutil.rmtree(self._directory)

    def _start_fault(self, number: int, name: int) -> None:
        fault = self._tree.faults[number % len(self._tree.faults)]
        self._tree.start_fault(fault, self._name(name))
        self._model.start_fault(fault, self._name(name))

    def _open(self, name: str) -> ModelHandle | None:
        try:
            opened = self._tree.face.open(self._path(name))
        except OSError as error:
            self._check_excused(name, error)
            return None
        versions = self._model.versions_at_open(name, size=opened.size)
        assert versions, f"{name}: opened with {opened.size} bytes"
        handle = ModelHandle(name, opened, versions)
        self._model.confirm_size(name)
        self._handles.append(handle)
        self.outcomes["opens"] += 1
        return handle

    def _outcome(self, handle: ModelHandle, way: int, offset: int, length: int) -> bytes | OSError:
        names = sorted(handle.opened.ways)
        try:
            return handle.opened.ways[names[way % len(names)]](offset, length)
        except OSError as error:
            return error

    def _check_read(
        self,
        handle: ModelHandle,
        offset: int,
        length: int,
        result: bytes | OSError,
        *,
        was_cached: bool = False,
    ) -> None:
        model = self._model
        where = f"{handle.name}: {offset}+{length}"
        if isinstance(result, OSError):
            assert not was_cached, f"{where}: was cached: {result!r}"
            self._check_read_error(handle, result, where)
            return
        is_gone = handle.is_evicted and model.is_surely_replaced(handle)
        assert not (result and is_gone), f"{where}: bytes of a version that is gone"
        model.narrow(handle, offset, length, result)
        assert handle.versions, f"{where}: wrong bytes, {len(result)} of them"
        self.outcomes["right reads"] += 1

    def _check_read_error(self, handle: ModelHandle, error: OSError, where: str) -> None:
        model = self._model
        is_excused = model.is_excused(handle.name, error)
        names_no_cause = isinstance(error, PageFaultError)
        is_stale = error.errno == errno.ESTALE or names_no_cause
        assert is_excused or (is_stale and model.is_replaced(handle)), f"{where}: {error!r}"
        self.outcomes["reads failed by a fault" if is_excused else "reads of replaced files"] += 1
        if not is_excused and not names_no_cause:
            model.notice_replacement(handle)

    def _check_excused(self, name: str, error: OSError) -> None:
        self.outcomes["calls failed by a fault"] += 1
        assert self._model.is_excused(name, error), f"{name}: {error!r}"

    def _read_whole(self, name: str) -> None:
        """Read a file whole, and once more if it turns out that it was replaced."""
        for _ in self._model.files[name].versions:
            handle = self._open(name)
            if handle is None:
                return  # a refusal is remembered
            result = self._outcome(handle, 0, 0, handle.opened.size + 1)
            self._check_read(handle, 0, handle.opened.size + 1, result)
            self._handles.remove(handle)
            handle.opened.close()
            if isinstance(result, bytes):
                return
        raise AssertionError(f"{name}: cannot be read")

    def _close_files(self) -> None:
        while self._handles:
            self._handles.pop().opened.close()

    def _put(self, name: str, size: int) -> None:
        file = self._model.files.get(name)
        data = content(f"{name} {len(file.versions) if file else 0}", size)
        self._tree.put(name, data)
        self.outcomes["puts"] += 1
        self._model.put(name, data)

    def _name(self, number: int) -> str:
        return self._tree.names[number % len(self._tree.names)]

    def _handle(self, number: int) -> ModelHandle:
        return self._handles[number % len(self._handles)]

    def _path(self, name: str) -> str:
        return f"{self._tree.directory}/{name}"


def _error(call: Callable[[str], object], path: str) -> OSError:
    """Return the error of a call, which must fail."""
    try:
        result = call(path)
    except OSError as error:
        return error
    raise AssertionError(f"{path}: {result!r}")
