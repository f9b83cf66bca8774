"""Read-ahead of small files over a directory: an open predicts which files are opened next.

The latency of a small file is one round trip, whatever its size. A program that reads all files of
a directory must not wait for each of them, whether it reads in the order of the listing, in the
order of the names or in random order, in one process or in several.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.cache import ReadaheadLimit
from ego4dfs.store import ObjectFacts
from ego4dfs.vfs.tree import Node, ObjectFile, Tree

MAX_FILE_BYTES = BLOCK_SIZE
"""Larger files have a read-ahead window of their own."""
MAX_AHEAD_BYTES = 128 * BLOCK_SIZE
"""Bytes of a directory that may have been fetched ahead and not opened yet; fewer if the cache
would evict them before they are opened."""
MAX_IN_ORDER = 32
EPOCH_AFTER = 32
"""Opens of different files of a directory, in any order, that count as the start of an epoch."""
AHEAD_KEPT_S = 600.0
"""After this time a file that was fetched ahead and not opened no longer counts."""

_FILES_PER_OPEN = 2
_MIN_RUN = 4  # opens in order; by chance: 1 open in 60 over 500 files in random order
_MAX_SKIP = 4  # processes that share a directory overtake each other
_REMEMBERED = 32
_MAX_FILES = 200_000  # each takes 0.5 KB of memory; larger directories have no read-ahead


class _Fetched(NamedTuple):
    """A file that was fetched ahead: its size, and when."""

    size_bytes: int
    at_s: float


Peek = Callable[[str], ObjectFacts | None]
Fetch = Callable[[ObjectFile, ObjectFacts | None], bool]


class _Order:
    """One order of a directory's files, and the lengths of the recent runs in it."""

    def __init__(self, files: list[ObjectFile]) -> None:
        self.files = files
        self._places = {file.path: place for place, file in enumerate(files)}
        self._runs: OrderedDict[int, int] = OrderedDict()

    def after(self, file: ObjectFile) -> list[ObjectFile]:
        """Record an open, and return the files that follow if it continues a run."""
        place = self._places[file.path]
        run = 1 + max(self._runs.get(before, 0) for before in range(place - _MAX_SKIP, place))
        self._runs[place] = run
        self._runs.move_to_end(place)
        if len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)
        count = min(MAX_IN_ORDER, _FILES_PER_OPEN * run) if run >= _MIN_RUN else 0
        return self.files[place + 1 : place + 1 + count]


class _Directory:
    """The small files of one directory: which were opened, and which were fetched ahead."""

    def __init__(self, children: Mapping[str, Node]) -> None:
        files = {name: node for name, node in children.items() if isinstance(node, ObjectFile)}
        listed, by_name = list(files.values()), [files[name] for name in sorted(files)]
        self._orders = [_Order(listed), *([_Order(by_name)] if by_name != listed else [])]
        self._queue = deque(listed)
        self._opened: set[str] = set()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._ahead: dict[str, _Fetched] = {}  # by path, oldest first
        self._ahead_bytes = 0
        self.largest = 0

    def opened(self, file: ObjectFile, size: int) -> Iterator[ObjectFile]:
        """Record an open, and yield the files to fetch ahead, most probable first."""
        self.largest = max(self.largest, size)
        if file.path in self._opened and file.path not in self._recent:
            self._begin_epoch()
        self._opened.add(file.path)
        self._recent[file.path] = None
        self._recent.move_to_end(file.path)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        self._forget(file.path)
        for order in self._orders:
            yield from (other for other in order.after(file) if self.is_new(other))
        if len(self._opened) >= EPOCH_AFTER:
            for _ in range(min(_FILES_PER_OPEN, len(self._queue))):
                yield from self._next_in_queue()

    def is_new(self, file: ObjectFile) -> bool:
        """Return whether a file was neither opened nor fetched ahead in this epoch."""
        return file.path not in self._opened and not self.is_ahead(file.path)

    def is_ahead(self, path: str) -> bool:
        """Return whether a file was fetched ahead and not opened since."""
        return path in self._ahead

    def reserve(self, file: ObjectFile, size: int, limit: ReadaheadLimit) -> bool:
        """Record that a file is fetched ahead; False if that would exceed the limit."""
        now_s = time.monotonic()
        while self._ahead and next(iter(self._ahead.values())).at_s < now_s - AHEAD_KEPT_S:
            self._forget(next(iter(self._ahead)))
        fits = self._ahead_bytes + size <= min(MAX_AHEAD_BYTES, limit.bytes)
        if not fits or len(self._ahead) >= limit.blocks:
            return False
        self._ahead[file.path] = _Fetched(size, now_s)
        self._ahead_bytes += size
        return True

    def release(self, file: ObjectFile) -> None:
        """Record that a reserved file could not be fetched."""
        self._forget(file.path)

    def requeue(self, file: ObjectFile) -> None:
        """Put a file back into the queue of this epoch."""
        if len(self._queue) < len(self._orders[0].files):
            self._queue.append(file)

    def _begin_epoch(self) -> None:
        """Start again: files that were evicted are fetched again, the others are cache hits."""
        self._opened.clear()
        self._ahead.clear()
        self._ahead_bytes = 0
        self._queue = deque(self._orders[0].files)

    def _forget(self, path: str) -> None:
        fetched = self._ahead.pop(path, None)
        if fetched is not None:
            self._ahead_bytes -= fetched.size_bytes

    def _next_in_queue(self) -> Iterator[ObjectFile]:
        while self._queue:
            file = self._queue.popleft()
            if self.is_new(file):
                yield file
                return


class DirectoryReadahead:
    """Records opens, and fetches files ahead. Safe from several threads."""

    def __init__(
        self,
        tree: Tree,
        has_copy: Callable[[ObjectFile], bool],
        peek: Peek,
        fetch: Fetch,
        limit: Callable[[], ReadaheadLimit],
    ) -> None:
        """Get facts by URL from `peek`, which makes no request.

        `fetch` is called with None for unknown facts, and returns False if it has no room. A file
        for which `has_copy` is not fetched. `limit` returns how much unread data the cache would
        keep; a small file is one block.
        """
        self._tree = tree
        self._has_copy = has_copy
        self._peek = peek
        self._fetch = fetch
        self._limit = limit
        self._directories: dict[str, _Directory | None] = {}
        self._lock = threading.Lock()  # guards the dict and its content

    def has_small_files(self, path: str) -> bool:
        """Return whether a small file was opened in the directory of a file."""
        with self._lock:
            return path.rpartition("/")[0] in self._directories

    def is_requested(self, path: str) -> bool:
        """Return whether a file was fetched ahead and not opened since."""
        with self._lock:
            directory = self._directories.get(path.rpartition("/")[0])
            return directory is not None and directory.is_ahead(path)

    def opened(self, file: ObjectFile, size: int) -> None:
        """Record the open of a small file, and fetch some of the files that follow."""
        name = file.path.rpartition("/")[0]
        with self._lock:
            if name not in self._directories:
                siblings = self._tree.siblings(file.path)
                is_followed = len(siblings) <= _MAX_FILES
                self._directories[name] = _Directory(siblings) if is_followed else None
            directory = self._directories[name]
            if directory is None:
                return
            candidates = directory.opened(file, size)
        while candidate := self._next_of(candidates):
            if not self._fetched(directory, candidate):
                return

    def _next_of(self, candidates: Iterator[ObjectFile]) -> ObjectFile | None:
        with self._lock:
            return next(candidates, None)

    def _fetched(self, directory: _Directory, file: ObjectFile) -> bool:
        """Fetch a file if it is small or of unknown size; False if there is no room for more."""
        if self._has_copy(file):
            return True
        facts, limit = self._peek(file.url), self._limit()
        if facts is not None and facts.size > MAX_FILE_BYTES:
            return True
        with self._lock:
            if not directory.is_new(file):
                return True  # another thread was faster
            size = directory.largest if facts is None else facts.size
            has_room = directory.reserve(file, size, limit)
        if has_room and self._fetch(file, facts):
            return True
        with self._lock:
            if has_room:
                directory.release(file)
            directory.requeue(file)
        return False
